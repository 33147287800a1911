"""Quality of a labeller on labelled image streams: what `sam2vss evaluate` does.

A labeller is whatever answers images with label images: the pipeline, frame by frame as the node
does, or the paper's offline refiner, window by window.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.evaluation.metrics import ConfusionMatrix
from sam2vss_ros.evaluation.readers import BrokenFrame, InputError, LabelledFrame, LabelledStream
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledOutput:
    """A labeller's answer to one frame.

    label_image: (H, W) class ids of the labeller's catalog, None where the frame failed for the
    reason `failure`. seconds: the labeller's own time for this frame. confidence_image: (H, W)
    uint8, 0..255 for 0..1.
    """

    label_image: npt.NDArray[np.integer] | None
    seconds: float
    confidence_image: npt.NDArray[np.uint8] | None = None
    failure: str = ""


class Labeller(Protocol):
    """What can be evaluated."""

    @property
    def catalog(self) -> ClassCatalog:
        """What the ids of its label images mean."""

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        """One answer per frame of one stream, in order; it may look ahead as far as it must."""


class PipelineLabeller:
    """The pipeline as the live node runs it: a frame that fails is skipped and memory begins anew,
    and a second frame in a row with one stamp is skipped."""

    def __init__(self, pipeline: VssPipeline) -> None:
        self.pipeline = pipeline

    @property
    def catalog(self) -> ClassCatalog:
        return self.pipeline.catalog

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        self.pipeline.reset()
        last_stamp: int | None = None
        for frame in frames:
            if frame.stamp_ns == last_stamp:
                yield LabelledOutput(None, 0.0, failure=f"a second frame at {last_stamp} ns")
                continue
            last_stamp = frame.stamp_ns
            start = time.perf_counter()
            try:
                answer = self.pipeline.process(frame)
            except Exception as error:
                self.pipeline.reset()
                log.warning("frame at %d ns: %s", frame.stamp_ns, traceback.format_exc())
                reason = f"{type(error).__name__}: {error}"
                yield LabelledOutput(None, time.perf_counter() - start, failure=reason)
            else:
                seconds = time.perf_counter() - start
                yield LabelledOutput(answer.label_image, seconds, answer.confidence_image)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured; `fps` counts the labeller's own time, not reading files."""

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
            "per_class_iou": {name: None if np.isnan(v) else v for name, v in iou},
            "pixel_accuracy": self.matrix.pixel_accuracy(),
            "streams": self.streams,
            "frames": self.frames,
            "frames_scored": self.frames_scored,
            "fps": self.fps,
        }


def evaluate(
    labeller: Labeller, streams: Sequence[LabelledStream], truth: ClassCatalog
) -> Evaluation:
    """Run a labeller over every stream, in order, and score its label images.

    Raises InputError for class catalogs without a common name, labels of another size than their
    image, and labels without any class of `truth`.
    """
    try:
        matrix = ConfusionMatrix(truth, labeller.catalog)
    except ValueError as error:
        raise InputError(str(error)) from error
    frames, scored, failures, seconds, first_failure = 0, 0, 0, 0.0, ""
    total = sum(stream.count for stream in streams)
    with tqdm(total=total, unit="frame", desc="evaluate") as progress:
        for stream in streams:
            for item, output in _answers(labeller, stream):
                frames += 1
                seconds += output.seconds
                failure = item.reason if isinstance(item, BrokenFrame) else output.failure
                if failure:
                    failures += 1
                    first_failure = first_failure or f"{stream.name}: {item.name}: {failure}"
                    log.warning("%s: %s: %s", stream.name, item.name, failure)
                elif isinstance(item, LabelledFrame) and item.labels is not None:
                    assert output.label_image is not None
                    matrix.update(item.labels, output.label_image)
                    scored += 1
                progress.update()
                progress.set_postfix(miou=f"{matrix.miou():.3f}", fps=f"{frames / seconds:.1f}")
    if failures and not scored:
        raise InputError(f"no frame could be scored, {failures} failed; the first: {first_failure}")
    if not matrix.truth_pixels.any():
        raise InputError(
            f"the labels hold none of the classes of {truth.name}, only the ids "
            f"{sorted(matrix.foreign_pixels) or truth.ignore_id}: is `--classes` the right one?"
        )
    return Evaluation(matrix, len(streams), frames, scored, frames / seconds)


def _answers(
    labeller: Labeller, stream: LabelledStream
) -> Iterator[tuple[LabelledFrame | BrokenFrame, LabelledOutput]]:
    """Every frame of a stream with its answer; a frame without an image never meets the labeller.

    No more frames wait here than the labeller looks ahead.
    """
    waiting: deque[LabelledFrame | BrokenFrame] = deque()

    def frames() -> Iterator[Frame]:
        for item in stream.read():
            waiting.append(item)
            if item.frame is not None:
                yield item.frame

    def unreadable() -> Iterator[tuple[LabelledFrame | BrokenFrame, LabelledOutput]]:
        while waiting and waiting[0].frame is None:
            item = waiting.popleft()
            assert isinstance(item, BrokenFrame)
            yield item, LabelledOutput(None, 0.0, failure=item.reason)

    for output in labeller.label(frames()):
        yield from unreadable()
        yield waiting.popleft(), output
    yield from unreadable()
