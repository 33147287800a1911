"""What a report keeps of frames: rows of frames.csv, figures over time, and the worst frames.

It can be gathered on another machine and sent: it holds no images but the pictures of the worst.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sam2vss_ros.evaluation.evaluate import FrameResult
from sam2vss_ros.evaluation.gallery import BadFrame, WorstFrames
from sam2vss_ros.evaluation.metrics import FrameScore
from sam2vss_ros.semantics.catalog import ClassCatalog

WORST = 6
"""Frames that are shown of each variant."""

SCORES = tuple(f.name for f in dataclasses.fields(FrameScore))
COLUMNS = (
    "variant", "stream", "index", "frame", "stamp_ns", "status", *SCORES, "latency_ms", "failure",
)  # fmt: skip


@dataclass(frozen=True)
class FrameRow:
    """A frame's `cells` of frames.csv, in the order of COLUMNS without the variant."""

    stream: str
    cells: Sequence[object]
    score: FrameScore | None

    @staticmethod
    def of(result: FrameResult) -> FrameRow:
        """The row of a result."""
        status = "failed" if result.failure else "unmatched" if result.labels is None else "scored"
        scores = [getattr(result.score, name) if result.score else math.nan for name in SCORES]
        cells = [
            result.stream,
            result.index,
            result.name,
            "" if result.frame is None else result.frame.stamp_ns,
            status,
            *("" if math.isnan(v) else f"{v:.6f}" for v in scores),
            f"{1e3 * result.output.seconds:.3f}",
            result.failure,
        ]
        return FrameRow(result.stream, cells, result.score)


def offer(gallery: WorstFrames, result: FrameResult) -> None:
    """Have a gallery consider the frame of a result, where it was scored."""
    prediction = result.output.label_image
    if result.score and result.labels is not None:
        assert result.frame is not None and prediction is not None
        place = result.stream, result.index, result.name
        gallery.offer(place, result.score.miou, result.frame.image, result.labels, prediction)


@dataclass
class FrameLog:
    """What a report keeps of the frames of a stretch."""

    rows: list[FrameRow] = field(default_factory=list)
    worst: list[BadFrame] = field(default_factory=list)


class FrameLogger:
    """Watches the frames of a stretch; `predicted` says what the ids of the labeller mean."""

    def __init__(self, truth: ClassCatalog, predicted: ClassCatalog) -> None:
        self._rows: list[FrameRow] = []
        self._gallery = WorstFrames(WORST, truth, predicted)

    def __call__(self, result: FrameResult) -> None:
        """Take the next frame."""
        self._rows.append(FrameRow.of(result))
        offer(self._gallery, result)

    def log(self) -> FrameLog:
        """All of it."""
        return FrameLog(self._rows, self._gallery.frames())
