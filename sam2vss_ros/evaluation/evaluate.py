"""Quality of a pipeline on labelled image streams: what `sam2vss evaluate` does."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam2vss_ros.evaluation.metrics import ConfusionMatrix
from sam2vss_ros.evaluation.readers import (
    InputError,
    image_size,
    list_images,
    read_image,
    read_labels,
    stamp_ns,
)
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledImage:
    """One frame of a stream on disk; `labels` is None where it has no ground truth."""

    image: Path
    labels: Path | None


Streams = Mapping[str, Sequence[LabelledImage]]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured; `fps` counts the pipeline's own time, not reading files."""

    matrix: ConfusionMatrix
    streams: int
    frames: int
    frames_scored: int
    fps: float

    def as_json(self) -> dict[str, Any]:
        """Plain data. IoU runs from 0 to 1; classes without ground truth have None."""
        iou = zip(self.matrix.names, self.matrix.per_class_iou().tolist(), strict=True)
        return {
            "miou": self.matrix.miou(),
            "per_class_iou": {name: None if math.isnan(v) else v for name, v in iou},
            "pixel_accuracy": self.matrix.pixel_accuracy(),
            "streams": self.streams,
            "frames": self.frames,
            "frames_scored": self.frames_scored,
            "fps": self.fps,
        }


def find_streams(images: Path, labels: Path) -> Streams:
    """Join images and labels by file stem; one stream per name prefix before the first `_`.

    Frames are in the order of their names. Images without labels stay in their stream, unscored;
    labels without an image are reported in the log. Raises InputError where nothing matches, two
    files have one stem, or a label image is of another size than its image.
    """
    image_of, labels_of = _by_stem(list_images(images)), _by_stem(list_images(labels))
    common = image_of.keys() & labels_of.keys()
    if not common:
        raise InputError(
            f"no image in {images} has labels in {labels}: files are joined by their names "
            f"without suffix, such as {next(iter(image_of))} and {next(iter(labels_of))}"
        )
    for stem in sorted(common):
        size, label_size = image_size(image_of[stem]), image_size(labels_of[stem])
        if size != label_size:
            raise InputError(
                f"{labels_of[stem]} is {label_size[0]}x{label_size[1]}, its image "
                f"{image_of[stem]} is {size[0]}x{size[1]}"
            )
    if len(common) < len(image_of):
        log.warning("%d images have no labels: seen, not scored", len(image_of) - len(common))
    if len(common) < len(labels_of):
        log.warning("%d label images have no image: left out", len(labels_of) - len(common))
    streams: dict[str, list[LabelledImage]] = {}
    for stem, image in sorted(image_of.items()):
        streams.setdefault(stem.split("_")[0], []).append(LabelledImage(image, labels_of.get(stem)))
    return streams


def evaluate(
    pipeline: VssPipeline, streams: Streams, truth: ClassCatalog, rate: float
) -> Evaluation:
    """Run the pipeline over every stream, in order, and score its label images.

    The pipeline forgets everything between streams; frames are `1 / rate` seconds apart.
    Raises InputError for files that cannot be read and for labels without any class of `truth`.
    """
    try:
        matrix = ConfusionMatrix(truth, pipeline.catalog)
    except ValueError as error:
        raise InputError(str(error)) from error
    frames, scored, seconds = 0, 0, 0.0
    total = sum(len(stream) for stream in streams.values())
    with tqdm(total=total, unit="frame", desc="evaluate") as progress:
        for stream in streams.values():
            pipeline.reset()
            for item in stream:
                frame = Frame(read_image(item.image), stamp_ns(frames, rate))
                start = time.perf_counter()
                answer = pipeline.process(frame)
                seconds += time.perf_counter() - start
                frames += 1
                if item.labels is not None:
                    matrix.update(read_labels(item.labels), answer.label_image)
                    scored += 1
                progress.update()
                progress.set_postfix(miou=f"{matrix.miou():.3f}", fps=f"{frames / seconds:.1f}")
    if not matrix.truth_pixels.any():
        raise InputError(
            f"the labels hold none of the classes of {truth.name}, only the ids "
            f"{sorted(matrix.foreign_pixels) or truth.ignore_id}: is `--classes` the right one?"
        )
    return Evaluation(matrix, len(streams), frames, scored, frames / seconds)


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(f"{stems[path.stem]} and {path} have one name but for the suffix")
        stems[path.stem] = path
    return stems
