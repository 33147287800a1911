"""What is labelled in scenes without a single known class, and what silence there costs elsewhere.

The stream is processed once, with every pixel and object given its likeliest class; who is silent
below a score of confidence is known from the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.confusion import ConfusionMatrix
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, SemanticFrame

NO_CLASS = 65535
"""Stands for no class; catalogs of labelled material seldom have it."""


@dataclass(frozen=True)
class Spoken:
    """What a stream was told at one `min_class_score`.

    labelled: share of the pixels with a class. named: share of the visible objects, frame by frame,
    with one; NaN where there was none.
    """

    frames: int
    labelled: float
    named: float


@dataclass(frozen=True)
class Scored:
    """Labelled streams at one `min_class_score`: mIoU, share of the labelled ground truth that has
    a class, and share of that which has the right one."""

    frames: int
    miou: float
    labelled: float
    right: float


def speak(
    pipeline: VssPipeline, frames: Iterable[Frame], scores: Sequence[float]
) -> dict[float, Spoken]:
    """What the pipeline, whose `min_class_score` is to be 0, says of one stream at each score.

    Raises ValueError where there is no frame.
    """
    pipeline.reset()
    pixels = count = objects = 0
    labelled, named = dict.fromkeys(scores, 0), dict.fromkeys(scores, 0)
    for frame in frames:
        answer = pipeline.process(frame)
        visible = [one.class_score for one in answer.objects if one.area]
        count += 1
        pixels += answer.label_image.size
        objects += len(visible)
        for score in scores:
            labelled[score] += int(_sure(answer, score).sum())
            named[score] += sum(of >= score for of in visible)
    if not count:
        raise ValueError("no frames")
    return {
        score: Spoken(
            count, labelled[score] / pixels, named[score] / objects if objects else float("nan")
        )
        for score in scores
    }


def score_known(
    pipeline: VssPipeline,
    streams: Iterable[Iterable[LabelledFrame | BrokenFrame]],
    scores: Sequence[float],
) -> dict[float, Scored]:
    """The same on streams whose labels are those of the pipeline's catalog; what cannot be read is
    left out. Raises ValueError where nothing has labels."""
    found = {score: ConfusionMatrix(pipeline.catalog) for score in scores}
    count = 0
    for stream in streams:
        pipeline.reset()
        for one in stream:
            if one.frame is None:
                continue
            answer = pipeline.process(one.frame)
            if isinstance(one, BrokenFrame) or one.labels is None:
                continue
            count += 1
            for score, matrix in found.items():
                spoken = np.where(_sure(answer, score), answer.label_image, NO_CLASS)
                matrix.update(one.labels, spoken)
    if not count:
        raise ValueError("no frame has labels")
    return {score: _scored(count, matrix) for score, matrix in found.items()}


def _sure(answer: SemanticFrame, score: float) -> npt.NDArray[np.bool_]:
    """(H, W), where the confidence is not below `score`, to the 255th part."""
    return answer.confidence_image >= int(score * 255)


def _scored(count: int, matrix: ConfusionMatrix) -> Scored:
    total = int(matrix.counts.sum())
    spoken = int(matrix.counts[:, :-1].sum())
    right = int(np.trace(matrix.counts[:, :-1]))
    return Scored(
        count,
        matrix.miou(),
        spoken / total if total else float("nan"),
        right / spoken if spoken else float("nan"),
    )
