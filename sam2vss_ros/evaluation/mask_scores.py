"""How well one mask matches another: region (J) and contour (F), as DAVIS measures them.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

TOLERANCE_SHARE = 0.008
"""Share of the image's diagonal by which a contour may be off."""


def mask_iou(truth: Mask, found: Mask) -> float:
    """J: intersection over union of two (H, W) masks, 0..1; two empty masks are equal."""
    union = np.count_nonzero(truth | found)
    return np.count_nonzero(truth & found) / union if union else 1.0


def boundary_f(truth: Mask, found: Mask) -> float:
    """F: harmonic mean of precision and recall of the contour of (H, W) masks, 0..1.

    A contour pixel is right where the other contour has one within a disk of `tolerance` pixels.
    Masks without a contour, empty or as large as the image, match each other and nothing else.
    """
    true_contour, found_contour = contour(truth), contour(found)
    if not true_contour.any() or not found_contour.any():
        return float(true_contour.any() == found_contour.any())
    radius = tolerance(*truth.shape)
    precision = np.mean(near(true_contour, radius)[found_contour])
    recall = np.mean(near(found_contour, radius)[true_contour])
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def tolerance(height: int, width: int) -> int:
    """Pixels by which a contour may be off: 8 at 854x480."""
    return math.ceil(TOLERANCE_SHARE * math.hypot(height, width))


def contour(mask: Mask) -> Mask:
    """(H, W) where a mask differs from its right, its lower or its lower right neighbour."""
    below_right = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = below_right[:-1, 1:], below_right[1:, :-1], below_right[1:, 1:]
    return np.asarray((mask != right) | (mask != below) | (mask != diagonal))


def near(pixels: Mask, radius: int) -> Mask:
    """(H, W) what a disk dilates the set pixels to: all within `radius` of one, the rim included.

    There must be one.
    """
    distance = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= radius)


def innermost(mask: Mask) -> tuple[int, int]:
    """x and y of the pixel of an (H, W) mask that is farthest from what is not part of it.

    Beyond the rim of the image nothing is. The mask must not be empty.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)
