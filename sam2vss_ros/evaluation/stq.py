"""Segmentation and Tracking Quality (STQ): label images and object ids in one figure.

Weber et al., "STEP: Segmenting and Tracking Every Pixel", 2021. STQ is the geometric mean of the
segmentation quality SQ (mIoU) and the association quality AQ, which looks at whole tubes: the
pixels of one object over all frames of a stream.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.confusion import ConfusionMatrix, IndexImage, LabelImage
from sam2vss_ros.semantics.catalog import ClassCatalog

RULES = {
    "stq": "square root of aq * sq (Weber et al., 2021)",
    "aq": "mean over the true tubes (class and id in one stream, countable classes) of the IoU "
    "with each predicted tube, weighted by the share of the true tube's pixels that it covers; "
    "true pixels of a countable class without an id are dropped",
    "sq": "mean IoU over the classes that occur in ground truth or prediction, void dropped",
}
_NO_TUBE = 0


class SegmentationAndTrackingQuality:
    """STQ, frame by frame; memory grows with the tubes of one stream, not with frames.

    `truth` and `predicted` are as for `ConfusionMatrix`; countable are the things of `truth`. A
    predicted object that changes its class is another tube. Call `start_stream` before each stream.
    """

    def __init__(self, truth: ClassCatalog, predicted: ClassCatalog | None = None) -> None:
        self._matrix = ConfusionMatrix(truth, predicted)
        self._countable = np.append(truth.things, False)
        self._quality, self._tubes = 0.0, 0
        """Of the streams that have ended: the sum of their tubes' AQ, and how many tubes."""
        self._pixels: Counter[tuple[int, int]] = Counter()
        """Of the stream so far: pixels by true and predicted tube."""

    def start_stream(self) -> None:
        """Ids begin anew."""
        quality, tubes = self._association()
        self._quality += quality
        self._tubes += tubes
        self._pixels.clear()

    def update(
        self, labels: LabelImage, ids: LabelImage, prediction: LabelImage, predicted_ids: LabelImage
    ) -> None:
        """Count one frame. All are (H, W): class ids, and object ids below 65536, 0 for none.

        Raises ValueError where the sizes differ.
        """
        if ids.shape != labels.shape or predicted_ids.shape != labels.shape:
            raise ValueError(
                f"labels are {labels.shape}, ids {ids.shape}, predicted ids {predicted_ids.shape}"
            )
        rows, columns = self._matrix.index_images(labels, prediction)
        self._matrix.count(rows, columns)
        true_thing, predicted_thing = self._countable[rows], self._countable[columns]
        scored = (true_thing | predicted_thing) & ~(true_thing & (ids == 0))
        true_tubes, true = np.unique(
            np.where(true_thing, _tubes(rows, ids), _NO_TUBE)[scored], return_inverse=True
        )
        predicted_tubes, predicted = np.unique(
            np.where(predicted_thing, _tubes(columns, predicted_ids), _NO_TUBE)[scored],
            return_inverse=True,
        )
        pairs, pixels = np.unique(true * len(predicted_tubes) + predicted, return_counts=True)
        for pair, count in zip(pairs.tolist(), pixels.tolist(), strict=True):
            i, j = divmod(pair, len(predicted_tubes))
            self._pixels[int(true_tubes[i]), int(predicted_tubes[j])] += count

    def _association(self) -> tuple[float, int]:
        """Sum of AQ over the true tubes of the stream so far, and how many there are."""
        true_size: Counter[int] = Counter()
        predicted_size: Counter[int] = Counter()
        for (true, predicted), pixels in self._pixels.items():
            true_size[true] += pixels
            predicted_size[predicted] += pixels
        quality = sum(
            pixels
            / true_size[true]
            * pixels
            / (true_size[true] + predicted_size[predicted] - pixels)
            for (true, predicted), pixels in self._pixels.items()
            if _NO_TUBE not in (true, predicted)
        )
        return quality, len(true_size.keys() - {_NO_TUBE})

    def aq(self) -> float:
        """Association quality, 0..1; NaN where the ground truth has no tube."""
        quality, tubes = self._association()
        tubes += self._tubes
        return (self._quality + quality) / tubes if tubes else math.nan

    def sq(self) -> float:
        """Mean IoU over the classes in ground truth or prediction, 0..1; NaN where there is none.

        Unlike in `ConfusionMatrix.miou`, a class that is only predicted counts as 0.
        """
        counts = self._matrix.counts
        hits = np.diagonal(counts)
        union = counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - hits
        return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else math.nan

    def stq(self) -> float:
        """Geometric mean of `aq` and `sq`."""
        return math.sqrt(self.aq() * self.sq())

    def as_json(self) -> dict[str, Any]:
        """Plain data, 0..1, None where there is nothing to say; `rules` states each definition."""
        scores = {"stq": self.stq(), "aq": self.aq(), "sq": self.sq()}
        return {
            **{name: None if math.isnan(value) else value for name, value in scores.items()},
            "rules": RULES,
        }


def _tubes(index: IndexImage, ids: LabelImage) -> npt.NDArray[np.int64]:
    """One number, not `_NO_TUBE`, for each class and object id."""
    return (index.astype(np.int64) + 1 << 16) + ids
