"""Scores of label images that somebody else made: what `sam2vss metrics` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.metrics import Scoreboard
from sam2vss_ros.evaluation.stq import SegmentationAndTrackingQuality
from sam2vss_ros.io.readers import images_by_stem, read_image, read_labels, stems_by_stream
from sam2vss_ros.semantics.catalog import ClassCatalog

Files = Mapping[str, Path]
Pixels = TypeVar("Pixels", bound=npt.NDArray[np.integer])


@dataclass(frozen=True)
class LabelFolders:
    """Folders whose files are joined by their names without suffix.

    labels, predictions: label images. images: the camera's, for the flow. ids, predicted_ids:
    object id per pixel, 0 for none, for STQ; both or neither.
    """

    labels: Path
    predictions: Path
    images: Path | None = None
    ids: Path | None = None
    predicted_ids: Path | None = None


@dataclass(frozen=True)
class FolderScores:
    """What was measured. frames: with a prediction; frames_scored: with labels, too;
    frames_unmatched: labelled, but without a prediction."""

    scoreboard: Scoreboard
    tracking: SegmentationAndTrackingQuality | None
    streams: int
    frames: int
    frames_scored: int
    frames_unmatched: int

    def as_json(self) -> dict[str, Any]:
        """Plain data: the scoreboard's, STQ where there are ids, and the counts of frames."""
        report = self.scoreboard.as_json()
        if self.tracking is not None:
            tracking = self.tracking.as_json()
            report |= tracking | {"rules": report["rules"] | tracking["rules"]}
        return report | {
            "streams": self.streams,
            "frames": self.frames,
            "frames_scored": self.frames_scored,
            "frames_unmatched": self.frames_unmatched,
        }


def score_folders(
    folders: LabelFolders, truth: ClassCatalog, predicted: ClassCatalog | None = None
) -> FolderScores:
    """Score every prediction against the labels of its name.

    Frames are in the order of their names; `stems_by_stream` says which are one stream. What looks
    at successive frames begins anew after a label image without a prediction. `truth` and
    `predicted` are as for `ConfusionMatrix`. Raises InputError for files that cannot be read,
    joined or compared, and for labels without any class of `truth`.
    """
    if (folders.ids is None) != (folders.predicted_ids is None):
        raise InputError("ids: STQ needs the object ids of the labels and of the predictions")
    try:
        board = Scoreboard(truth, predicted)
    except ValueError as error:
        raise InputError(str(error)) from error
    tracking = SegmentationAndTrackingQuality(truth, predicted) if folders.ids else None
    files = _join(folders)
    predictions = files["predictions"]
    streams = stems_by_stream(files["labels"].keys() | predictions.keys())
    scored = 0
    with tqdm(total=sum(map(len, streams.values())), unit="frame", desc="metrics") as progress:
        for stems in streams.values():
            board.start_stream()
            if tracking is not None:
                tracking.start_stream()
            for stem in stems:
                progress.update()
                if stem not in predictions:
                    board.start_stream()
                    continue
                prediction = read_labels(predictions[stem])
                image = _read(read_image, files["images"], stem, prediction.shape)
                labels, ids, predicted_ids = (
                    _read(read_labels, files[name], stem, prediction.shape)
                    for name in ("labels", "ids", "predicted_ids")
                )
                board.update(labels, prediction, image)
                if labels is None:
                    continue
                scored += 1
                if tracking is not None:
                    if ids is None or predicted_ids is None:
                        raise InputError(f"ids: frame {stem} has labels, but not both id images")
                    tracking.update(labels, ids, prediction, predicted_ids)
    if not board.matrix.truth_pixels.any():
        raise InputError(
            f"the labels hold none of the classes of {truth.name}, only the ids "
            f"{sorted(board.matrix.foreign_pixels) or truth.ignore_id}: is it the right class file?"
        )
    return FolderScores(
        board,
        tracking,
        streams=len(streams),
        frames=len(predictions),
        frames_scored=scored,
        frames_unmatched=len(files["labels"].keys() - predictions.keys()),
    )


def _join(folders: LabelFolders) -> dict[str, Files]:
    """The files of every folder by stem, none where no folder is given."""
    files: dict[str, Files] = {}
    for name, folder in vars(folders).items():
        files[name] = {} if folder is None else images_by_stem(folder)
    for name, of_stem in files.items():
        if of_stem and not of_stem.keys() & files["predictions"].keys():
            raise InputError(
                f"no file in {getattr(folders, name)} belongs to one in {folders.predictions}: "
                "they are joined by their names without suffix, such as "
                f"{next(iter(of_stem))} and {next(iter(files['predictions']))}"
            )
    return files


def _read(
    reader: Callable[[Path], Pixels], files: Files, stem: str, shape: tuple[int, ...]
) -> Pixels | None:
    """The file of a frame, None where it has none. Raises InputError for another size."""
    if stem not in files:
        return None
    pixels = reader(files[stem])
    if pixels.shape[:2] != shape:
        height, width = pixels.shape[:2]
        raise InputError(
            f"{files[stem]} is {width}x{height}, the prediction is {shape[1]}x{shape[0]}"
        )
    return pixels
