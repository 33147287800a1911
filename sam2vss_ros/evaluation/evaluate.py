"""Quality of a labeller on labelled image streams: what `sam2vss evaluate` does.

A labeller is whatever answers images with label images: the pipeline, frame by frame as the node
does, or the paper's offline refiner, window by window.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.errors import InputError, NetworkError, few, one_line, with_traceback
from sam2vss_ros.evaluation.latency import Latencies
from sam2vss_ros.evaluation.metrics import FrameScore, Scoreboard
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, LabelledStream
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

OUT_OF_ORDER = "out of order: it is older than the frame before, and dropped as by the node"


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
    """The pipeline as the live node runs it: where a frame fails, its memory begins anew."""

    def __init__(self, pipeline: VssPipeline) -> None:
        self.pipeline = pipeline
        self._told = False

    @property
    def catalog(self) -> ClassCatalog:
        """The pipeline's."""
        return self.pipeline.catalog

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        """One answer per frame, without looking ahead; the stream starts without a memory."""
        self.pipeline.reset()
        for frame in frames:
            start = time.perf_counter()
            try:
                answer = self.pipeline.process(frame)
            except Exception as error:
                self.pipeline.reset()
                if not self._told:
                    known = isinstance(error, NetworkError)
                    log.warning("told once: %s", error if known else with_traceback(error))
                    self._told = True
                failure = one_line(f"{type(error).__name__}: {error}")
                yield LabelledOutput(None, time.perf_counter() - start, failure=failure)
            else:
                seconds = time.perf_counter() - start
                if answer.out_of_order:
                    yield LabelledOutput(None, 0.0, failure=OUT_OF_ORDER)
                else:
                    yield LabelledOutput(answer.label_image, seconds, answer.confidence_image)


@dataclass(frozen=True)
class FrameResult:
    """What became of one frame.

    `index` counts in its stream. `frame` is None where no image could be read; `labels` where it
    has none that can be read. `score` is None where the frame failed for the reason `failure`.
    """

    stream: str
    index: int
    name: str
    frame: Frame | None
    labels: npt.NDArray[np.integer] | None
    output: LabelledOutput
    score: FrameScore | None
    failure: str


class Evaluation:
    """What is measured of one labeller, frame by frame; memory does not grow with the frames."""

    def __init__(
        self, truth: ClassCatalog, predicted: ClassCatalog | None = None, flow: bool = False
    ) -> None:
        self.scores = Scoreboard(truth, predicted)
        self.flow = flow
        self.latencies = Latencies()
        self.streams = 0
        self.frames = 0
        """All that the streams hold; each is scored, unmatched or failed."""
        self.frames_scored = 0
        self.frames_unmatched = 0
        """Frames that have no labels."""
        self.frames_failed = 0
        """Frames that could not be read or processed, or whose labels could not be read."""
        self.labels_unmatched = 0
        """Label images that have no frame."""
        self.first_failure = ""
        self.disorder_told = False

    def merge(self, later: Evaluation) -> None:
        """Count what was measured of the streams, or the parts of one, that follow."""
        self.scores.merge(later.scores)
        self.latencies.merge(later.latencies)
        self.streams += later.streams
        self.frames += later.frames
        self.frames_scored += later.frames_scored
        self.frames_unmatched += later.frames_unmatched
        self.frames_failed += later.frames_failed
        self.labels_unmatched += later.labels_unmatched
        self.first_failure = self.first_failure or later.first_failure

    @property
    def fps(self) -> float:
        """Frames per second of the labeller's own time, without reading files."""
        spent = self.latencies
        return spent.count / spent.seconds if spent.seconds else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Plain data: the scoreboard's, counts, and the labeller's time per frame."""
        return {
            **self.scores.as_json(),
            "streams": self.streams,
            "frames": self.frames,
            "frames_scored": self.frames_scored,
            "frames_unmatched": self.frames_unmatched,
            "frames_failed": self.frames_failed,
            "labels_unmatched": self.labels_unmatched,
            "fps": _or_none(self.fps),
            "latency_ms_p50": _or_none(1e3 * self.latencies.quantile(0.5)),
            "latency_ms_p95": _or_none(1e3 * self.latencies.quantile(0.95)),
        }


def evaluate(
    labeller: Labeller,
    streams: Sequence[LabelledStream],
    truth: ClassCatalog,
    watch: Callable[[FrameResult], None] = lambda _: None,
    flow: bool = False,
    title: str = "evaluate",
) -> Evaluation:
    """Run a labeller over every stream, in order, and score its label images.

    `watch` is told of every frame; `flow` asks for consistency along optical flow, which takes
    about 25 ms of a CPU core per frame of 480x360, as against 7 ms for all other figures; `title`
    names the progress bar. A frame that fails is counted and reported in the log, and the next one
    follows. Raises InputError for class catalogs without
    a common name, labels without any class of `truth`, and where no frame can be scored.
    """
    evaluation = begin_evaluation(labeller, truth, flow)
    total = sum(stream.count for stream in streams)
    with tqdm(total=total or None, unit="frame", desc=title) as progress:
        for stream in streams:
            for result in score_stream(evaluation, labeller, stream):
                watch(result)
                progress.update()
                miou = evaluation.scores.matrix.miou()
                progress.set_postfix(miou=f"{miou:.3f}", fps=f"{evaluation.fps:.1f}")
    check_scored(evaluation, truth)
    return evaluation


def begin_evaluation(labeller: Labeller, truth: ClassCatalog, flow: bool) -> Evaluation:
    """An evaluation of nothing yet. Raises InputError for catalogs without a common name."""
    try:
        return Evaluation(truth, labeller.catalog, flow)
    except ValueError as error:
        raise InputError(str(error)) from error


def score_stream(
    evaluation: Evaluation, labeller: Labeller, stream: LabelledStream
) -> Iterator[FrameResult]:
    """Run a labeller over a stream, in order, and score its answers frame by frame."""
    evaluation.streams += 1
    evaluation.scores.start_stream()
    for index, (item, output) in enumerate(_answers(labeller, stream)):
        if index >= stream.warm_up:
            yield _score(evaluation, stream.name, stream.first + index, item, output)
    evaluation.scores.start_stream()
    evaluation.labels_unmatched += stream.unmatched()


def _score(
    evaluation: Evaluation,
    stream: str,
    index: int,
    item: LabelledFrame | BrokenFrame,
    output: LabelledOutput,
) -> FrameResult:
    """Count one frame. Where it failed, the next is not compared with what came before."""
    labels, failure = None, output.failure
    if isinstance(item, BrokenFrame):
        failure = item.reason
    else:
        labels, image = item.labels, item.frame.image
        if labels is not None and labels.shape != image.shape[:2]:
            (h, w), (height, width) = labels.shape, image.shape[:2]
            failure = failure or f"labels of another size: {w}x{h}, the image is {width}x{height}"
    score = None
    evaluation.frames += 1
    if output.seconds:
        evaluation.latencies.add(output.seconds)
    if failure:
        evaluation.frames_failed += 1
        evaluation.first_failure = evaluation.first_failure or f"{stream}: {item.name}: {failure}"
        if failure == OUT_OF_ORDER:
            _tell_disorder(evaluation, f"{stream}: {item.name}: {failure}")
        else:
            evaluation.scores.start_stream()
            log.warning("%s: %s: %s", stream, item.name, failure)
    else:
        evaluation.frames_unmatched += labels is None
        evaluation.frames_scored += labels is not None
        assert output.label_image is not None
        flow_image = image if evaluation.flow else None
        score = evaluation.scores.update(labels, output.label_image, flow_image)
    return FrameResult(stream, index, item.name, item.frame, labels, output, score, failure)


def _tell_disorder(evaluation: Evaluation, what: str) -> None:
    """It may be every second frame, and does not part those around it."""
    if not evaluation.disorder_told:
        evaluation.disorder_told = True
        log.warning("%s (told once, counted on)", what)


def check_scored(evaluation: Evaluation, truth: ClassCatalog) -> None:
    """Raise InputError where there was nothing to score."""
    if not evaluation.frames_scored and evaluation.frames_failed:
        raise InputError(
            f"no frame could be scored, {evaluation.frames_failed} failed; the first: "
            f"{evaluation.first_failure}"
        )
    if not evaluation.frames_scored:
        raise InputError(
            f"none of the {evaluation.frames} frames has labels ({evaluation.labels_unmatched} "
            "label images have no frame): are they of these images?"
        )
    matrix = evaluation.scores.matrix
    if not matrix.truth_pixels.any():
        foreign = sorted(matrix.foreign_pixels)
        found = f"[{few(foreign)}]" if foreign else truth.ignore_id
        raise InputError(
            f"the labels hold none of the classes of {truth.name}, only the ids {found}: is "
            "`--classes` the right one?"
        )


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


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
