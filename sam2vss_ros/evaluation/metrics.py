"""All figures of label images against ground truth, frame by frame, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.boundary import BAND_SHARE, TRIMAP_RADIUS, BoundaryIou, TrimapIou
from sam2vss_ros.evaluation.confusion import (
    ConfusionMatrix,
    LabelImage,
    mean,
    per_class_iou,
    pixel_accuracy,
)
from sam2vss_ros.evaluation.temporal import (
    PHOTOMETRIC_LIMIT,
    WINDOWS,
    FlowConsistency,
    VideoConsistency,
)
from sam2vss_ros.semantics.catalog import ClassCatalog

_CONSISTENCY = (
    "windows of C consecutive labelled frames, the last one of a clip left out, the mean over the "
    "windows of all clips"
)
RULES = {
    "miou": "one confusion matrix over all frames, void and foreign pixels of the ground truth "
    "dropped, mean over the classes with ground truth (VSPW); unlabelled is a miss",
    "fwiou": "IoU weighted by the pixels of the ground truth",
    "pixel_accuracy": "share of the scored pixels that have their true class",
    "mean_accuracy": "mean over classes of the share of their pixels that is found",
    "mbiou": "Boundary IoU per class over all frames, mean over the classes with ground truth; "
    f"band of max(1, round({BAND_SHARE} * diagonal)) px (boundary_px, by image size), outside of "
    "the image is background, a predicted band on void is a false alarm",
    "mbiou_void_out": "as mbiou, void pixels dropped",
    "trimap_miou": f"as miou, only within {TRIMAP_RADIUS} px of a boundary of the ground truth",
    "mvc": f"VSPW: {_CONSISTENCY}; of the pixels whose ground truth is constant, the share whose "
    "prediction is constant, even if wrong; void is a ground truth like any other",
    "mvc_void_out": "as mvc, void pixels dropped",
    "strict_vc": f"ours: {_CONSISTENCY}; of the pixels that constantly have one true class, the "
    "share that has this class in every frame",
    "flicker": "of the pixels with the same true class as in the frame before, the share whose "
    "prediction is not the same, over all frames",
    "flow_consistency": "mIoU between the predictions for a frame and for the next, brought back "
    "along OpenCV's DIS flow (preset medium); pixels that leave the image or change by more than "
    f"{PHOTOMETRIC_LIMIT} of 255 grey levels along the flow are dropped",
    "confusion_matrix": "pixels; row: true class, column: predicted class, in the order of "
    "per_class_iou; last column: no class",
}


@dataclass(frozen=True)
class FrameScore:
    """One frame's own figures, 0..1, by the rules of the whole; NaN where there is nothing to say
    (no labels, no image, or no frame before)."""

    miou: float
    pixel_accuracy: float
    mbiou: float
    trimap_miou: float
    flicker: float
    flow_consistency: float


class Scoreboard:
    """Scores label images frame by frame; memory does not grow with their number.

    `truth` and `predicted` are as for `ConfusionMatrix`. Call `start_stream` before each stream,
    and wherever a frame is missing: what looks at successive frames begins anew there.
    """

    def __init__(self, truth: ClassCatalog, predicted: ClassCatalog | None = None) -> None:
        self.matrix = ConfusionMatrix(truth, predicted)
        self.boundary = BoundaryIou(len(truth))
        self.trimap = TrimapIou(len(truth))
        self.consistency = VideoConsistency()
        self.flow = FlowConsistency(len(truth))

    def start_stream(self) -> None:
        """The next frame does not follow the last one."""
        self.consistency.start_clip()
        self.flow.start_clip()

    def merge(self, later: Scoreboard) -> None:
        """Count the frames of another scoreboard, of the streams that follow."""
        self.matrix.merge(later.matrix)
        self.boundary.merge(later.boundary)
        self.trimap.counts += later.trimap.counts
        self.consistency.merge(later.consistency)
        self.flow.counts += later.flow.counts

    def update(
        self,
        labels: LabelImage | None,
        prediction: LabelImage,
        image: npt.NDArray[np.uint8] | None = None,
    ) -> FrameScore:
        """Score one frame: (H, W) class ids and, for the flow, the (H, W, 3) uint8 RGB image.

        A frame without labels counts for the flow only, and no window and no flicker reaches
        across it. Raises ValueError where the sizes differ.
        """
        if labels is None:
            columns = self.matrix.predicted_index(prediction)
            self.consistency.start_clip()
            miou = accuracy = mbiou = trimap_miou = flicker = math.nan
        else:
            rows, columns = self.matrix.index_images(labels, prediction)
            counts = self.matrix.count(rows, columns)
            miou, accuracy = mean(per_class_iou(counts)), pixel_accuracy(counts)
            mbiou = self.boundary.update(rows, columns)
            trimap_miou = self.trimap.update(rows, columns)
            scored = rows < len(self.matrix.names)
            right = scored & (rows == columns)
            flicker = self.consistency.update(labels, prediction, scored, right)
        if image is None:
            self.flow.start_clip()
            flow_consistency = math.nan
        else:
            flow_consistency = self.flow.update(image, columns)
        return FrameScore(miou, accuracy, mbiou, trimap_miou, flicker, flow_consistency)

    def as_json(self) -> dict[str, Any]:
        """Plain data, 0..1, None where there is nothing to say; `rules` states each definition."""
        matrix = self.matrix
        scores = {
            "miou": matrix.miou(),
            "fwiou": matrix.fwiou(),
            "pixel_accuracy": matrix.pixel_accuracy(),
            "mean_accuracy": matrix.mean_accuracy(),
            "mbiou": mean(self.boundary.per_class()),
            "mbiou_void_out": mean(self.boundary.per_class_void_out()),
            "trimap_miou": self.trimap.miou(),
            "flicker": self.consistency.flicker(),
            "flow_consistency": self.flow.miou(),
        }
        for window in WINDOWS:
            vc = self.consistency.mvc(window)
            scores[f"mvc{window}"] = vc.vc
            scores[f"mvc{window}_void_out"] = vc.void_out
            scores[f"strict_vc{window}"] = vc.strict
        return {
            **{name: _plain(value) for name, value in scores.items()},
            "per_class_iou": self._by_class(matrix.per_class_iou()),
            "per_class_accuracy": self._by_class(matrix.per_class_accuracy()),
            "per_class_biou": self._by_class(self.boundary.per_class()),
            "boundary_px": {f"{w}x{h}": d for (h, w), d in self.boundary.widths.items()},
            "confusion_matrix": matrix.counts.tolist(),
            "foreign_pixels": dict(sorted(matrix.foreign_pixels.items())),
            "rules": RULES,
        }

    def _by_class(self, values: npt.NDArray[np.float64]) -> dict[str, float | None]:
        return dict(zip(self.matrix.names, map(_plain, values.tolist()), strict=True))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
