"""Scores of label images that somebody else made: what `sam2vss metrics` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.evaluation.metrics import Scoreboard
from sam2vss_ros.evaluation.stq import SegmentationAndTrackingQuality
from sam2vss_ros.io.image_files import UPRIGHT, Rgb, read_image
from sam2vss_ros.io.image_folders import Files, images_by_stem, join, stems_by_stream, unjoined
from sam2vss_ros.io.label_files import LabelReader, LabelRules
from sam2vss_ros.io.label_pixels import LabelIds
from sam2vss_ros.semantics.catalog import ClassCatalog


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
    frames_unmatched: labelled, but without a prediction. label_notes: what makes label images
    doubtful."""

    scoreboard: Scoreboard
    tracking: SegmentationAndTrackingQuality | None
    streams: int
    frames: int
    frames_scored: int
    frames_unmatched: int
    label_notes: list[str] = field(default_factory=list)

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
            "label_notes": self.label_notes,
        }


def score_folders(
    folders: LabelFolders,
    truth: ClassCatalog,
    predicted: ClassCatalog | None = None,
    rules: LabelRules | None = None,
    prediction_suffix: str = "",
) -> FolderScores:
    """Score every prediction against the labels of its name.

    Frames are in the natural order of their names; `stems_by_stream` says which are one stream.
    What looks at successive frames begins anew after a label image without a prediction. `truth`
    and `predicted` are as for `ConfusionMatrix`. rules: ends of the names of labels and images, and
    the orientation of label images where there are images; prediction_suffix: the end of the names
    of predictions. Raises InputError for files that cannot be read, joined or compared, and for
    labels without any class of `truth`.
    """
    if (folders.ids is None) != (folders.predicted_ids is None):
        raise InputError("ids: STQ needs the object ids of the labels and of the predictions")
    try:
        board = Scoreboard(truth, predicted)
    except ValueError as error:
        raise InputError(str(error)) from error
    tracking = SegmentationAndTrackingQuality(truth, predicted) if folders.ids else None
    rules = replace(rules or LabelRules(), catalog=truth)
    frames = _Frames(_join(folders, rules, prediction_suffix), rules, predicted or truth)
    labelled, predictions = frames.files["labels"], frames.files["predictions"]
    streams = stems_by_stream(labelled.keys() | predictions.keys())
    scored = 0
    with tqdm(total=sum(map(len, streams.values())), unit="frame", desc="metrics") as progress:
        for stems in streams.values():
            board.start_stream()
            if tracking is not None:
                tracking.start_stream()
            for stem in stems:
                progress.update()
                prediction = frames.labels("predictions", stem)
                if prediction is None:
                    board.start_stream()
                    continue
                labels, ids, predicted_ids = (
                    frames.labels(name, stem, prediction.shape)
                    for name in ("labels", "ids", "predicted_ids")
                )
                board.update(labels, prediction, frames.image(stem, prediction.shape))
                if labels is None:
                    continue
                scored += 1
                if tracking is not None:
                    if ids is None or predicted_ids is None:
                        raise InputError(f"ids: frame {stem} has labels, but not both id images")
                    tracking.update(labels, ids, prediction, predicted_ids)
    if not board.matrix.truth_pixels.any():
        foreign = sorted(board.matrix.foreign_pixels)
        found = f"[{few(foreign)}]" if foreign else truth.ignore_id
        raise InputError(
            f"the labels hold none of the classes of {truth.name}, only the ids {found}: is it the "
            "right class file?"
        )
    return FolderScores(
        board,
        tracking,
        streams=len(streams),
        frames=len(predictions),
        frames_scored=scored,
        frames_unmatched=len(labelled.keys() - predictions.keys()),
        label_notes=frames.notes(),
    )


def _join(folders: LabelFolders, rules: LabelRules, prediction_suffix: str) -> dict[str, Files]:
    """The files of every folder by name, none where no folder is given."""
    suffixes = {
        "predictions": prediction_suffix,
        "labels": rules.label_suffix,
        "images": rules.image_suffix,
    }
    given = {name: folder for name, folder in vars(folders).items() if folder is not None}
    found = {name: images_by_stem(folder, suffixes.get(name, "")) for name, folder in given.items()}
    files = join({"predictions": found.pop("predictions"), **found})
    for name, of_name in files.items():
        if not of_name.keys() & files["predictions"].keys():
            both = {given[name]: of_name, given["predictions"]: files["predictions"]}
            raise InputError(
                f"no file in {given[name]} belongs to one in {folders.predictions}: "
                f"{unjoined(both)}"
            )
    return {name: files.get(name, {}) for name in vars(folders)}


class _Frames:
    """The files of all folders by name; label images are turned onto their image as it is shown."""

    def __init__(
        self, files: Mapping[str, Files], rules: LabelRules, predicted: ClassCatalog
    ) -> None:
        self.files = files
        of_ids = replace(rules, catalog=None)
        self._readers = {
            "labels": LabelReader(rules),
            "predictions": LabelReader(replace(rules, catalog=predicted), check_ids=False),
            "ids": LabelReader(of_ids, check_ids=False),
            "predicted_ids": LabelReader(of_ids, check_ids=False),
        }
        for name, reader in self._readers.items():
            reader.settle(files[name].values())

    def labels(self, name: str, stem: str, shape: tuple[int, ...] | None = None) -> LabelIds | None:
        """A frame's ids of the folder `name`, None where it has none.

        Raises InputError, also for another shape than `shape`.
        """
        if stem not in self.files[name]:
            return None
        path, image = self.files[name][stem], self.files["images"].get(stem)
        reader = self._readers[name]
        ids = reader.read(path, UPRIGHT if image is None else reader.turn_of(path, image))
        _check_shape(path, ids.shape, shape)
        return ids

    def image(self, stem: str, shape: tuple[int, ...]) -> Rgb | None:
        """A frame's image as it is shown, None where it has none. Raises InputError."""
        if stem not in self.files["images"]:
            return None
        pixels = read_image(self.files["images"][stem])
        _check_shape(self.files["images"][stem], pixels.shape, shape)
        return pixels

    def notes(self) -> list[str]:
        """What makes the label images doubtful."""
        return [note for reader in self._readers.values() for note in reader.decoder.notes.values()]


def _check_shape(path: Path, shape: tuple[int, ...], of_prediction: tuple[int, ...] | None) -> None:
    if of_prediction is not None and shape[:2] != of_prediction:
        raise InputError(
            f"{path} is {shape[1]}x{shape[0]}, the prediction is "
            f"{of_prediction[1]}x{of_prediction[0]}"
        )
