"""IoU near boundaries: mBIoU and trimap mIoU, from confusion matrices of what lies in a band.

Boundary IoU (Cheng et al., CVPR 2021) compares, for each class, not the two masks but the part of
each within `d` pixels of its own contour: what `d` erosions with a 3x3 square take away, where the
outside of the image counts as background. `d` is 2 % of the image's diagonal. A pixel is in the
band of its class exactly where its (2d + 1)-square holds another value or leaves the image, so
that one pass over a label image finds the bands of all classes.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.confusion import (
    Counts,
    IndexImage,
    mean,
    pair_counts,
    per_class_iou,
)

BAND_SHARE = 0.02
TRIMAP_RADIUS = 5


class BoundaryIou:
    """mBIoU: Boundary IoU per class over all frames, then the mean over classes with ground truth.

    `classes` is C, the number of classes of the index images.
    """

    def __init__(self, classes: int) -> None:
        self._void, self._inside = classes, classes + 1
        self._shape = classes + 2, classes + 1
        self.counts: Counts = np.zeros(self._shape, np.int64)
        """Pixels: row the true class where in its band, then void, then inside; column the
        predicted class where in its band, the last: none, or inside."""
        self.widths: dict[tuple[int, int], int] = {}
        """Width of the band in pixels, by (height, width) of the images seen."""

    def update(self, rows: IndexImage, columns: IndexImage) -> float:
        """Count one frame's (H, W) index images of truth and prediction; the frame's own mBIoU."""
        height, width = rows.shape
        band = self.widths.setdefault((height, width), band_width(height, width))
        inside_truth = ~in_band(rows, band) & (rows != self._void)
        rows = np.where(inside_truth, self._inside, rows)
        columns = np.where(in_band(columns, band), columns, self._void)
        counts = pair_counts(rows, columns, self._shape)
        self.counts += counts
        return mean(per_class_iou(counts))

    def merge(self, later: BoundaryIou) -> None:
        """Count what another one of the same classes has counted."""
        self.counts += later.counts
        self.widths |= later.widths

    def per_class(self) -> npt.NDArray[np.float64]:
        """(C,) Boundary IoU, 0..1; a predicted band on void is a false alarm."""
        return per_class_iou(self.counts)

    def per_class_void_out(self) -> npt.NDArray[np.float64]:
        """(C,) the same with void pixels dropped from the bands, which they still border."""
        return per_class_iou(np.delete(self.counts, self._void, axis=0))


class TrimapIou:
    """mIoU by the rule of `confusion`, only within 5 px of a boundary of the ground truth."""

    def __init__(self, classes: int) -> None:
        self._none = classes
        self.counts: Counts = np.zeros((classes, classes + 1), np.int64)
        """(C, C + 1) pixels in the trimap: row the true class, column the predicted one."""

    def update(self, rows: IndexImage, columns: IndexImage) -> float:
        """Count one frame's (H, W) index images of truth and prediction; the frame's own mIoU."""
        rows = np.where(trimap(rows, TRIMAP_RADIUS), rows, self._none)
        counts = pair_counts(rows, columns, (self._none + 1, self._none + 1))[: self._none]
        self.counts += counts
        return mean(per_class_iou(counts))

    def miou(self) -> float:
        """Mean over the classes with ground truth there, 0..1; NaN before any was counted."""
        return mean(per_class_iou(self.counts))


def band_width(height: int, width: int) -> int:
    """Pixels on the inner side of a contour that Boundary IoU compares: 12 at 480x360."""
    return max(1, round(BAND_SHARE * float(np.hypot(height, width))))


def in_band(image: IndexImage, width: int) -> npt.NDArray[np.bool_]:
    """(H, W) whether a pixel is within `width` pixels (Chebyshev) of another value or the rim."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    band = np.asarray(cv2.erode(image, square) != cv2.dilate(image, square))
    band[:width] = band[-width:] = True
    band[:, :width] = band[:, -width:] = True
    return band


def trimap(image: IndexImage, radius: int) -> npt.NDArray[np.bool_]:
    """(H, W) whether a pixel lies in a disk of `radius` round one that differs from its right or
    its lower neighbour; the rows of the disk reach round(sqrt(radius^2 - dy^2)) to both sides."""
    edges = np.zeros(image.shape, np.uint8)
    edges[:, :-1] |= image[:, 1:] != image[:, :-1]
    edges[:-1] |= image[1:] != image[:-1]
    offsets = np.arange(-radius, radius + 1)
    reach = np.rint(np.sqrt(radius**2 - offsets**2))
    disk = (np.abs(offsets) <= reach[:, None]).astype(np.uint8)
    return np.asarray(cv2.dilate(edges, disk), bool)
