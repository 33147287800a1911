"""Regions of countable classes, divided into single things by the middles that the head sees.

After the grouping of Panoptic-DeepLab (Cheng et al., CVPR 2020, section 3.2), but inside connected
regions: a region stays whole unless it has several middles.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.semantics.segmenter import MIDDLE_SCALE

LEAST_MIDDLE = 0.3
"""Least value, 0..1, of a middle."""

APART = 3
"""Places around a middle among which it is the highest."""

LEAST_PART = 0.1
"""Share of a region below which a part of it is no thing of its own."""


def divided(
    regions: npt.NDArray[np.int32],
    things: npt.NDArray[np.bool_],
    middles: npt.NDArray[np.float32],
) -> npt.NDArray[np.int32]:
    """(h, w) numbers of regions, 0 for none -> the same with regions of several things divided.

    things: (h, w), which pixels are of a countable class. middles: the head's (3, ., .)
    `Dense.middles` of any size. A part of its own gets a new number, above all others.
    """
    near, x, y = _resized(middles, regions.shape)
    highest = cv2.dilate(near, np.ones((2 * APART + 1,) * 2, np.uint8))
    peaks = (near >= LEAST_MIDDLE) & (near == highest) & things & (regions > 0)
    out, count = regions.copy(), int(regions.max())
    for number in np.unique(regions[peaks]):
        rows, columns = np.nonzero(peaks & (regions == number))
        if len(rows) < 2:
            continue
        inside = regions == number
        at_y, at_x = np.nonzero(inside)
        to_y, to_x = at_y + y[inside], at_x + x[inside]
        distance = (to_y[:, None] - rows) ** 2 + (to_x[:, None] - columns) ** 2
        nearest = distance.argmin(1)
        areas = np.bincount(nearest, minlength=len(rows))
        keep = np.flatnonzero(areas >= LEAST_PART * len(at_y))
        if len(keep) < 2:
            continue
        part = distance[:, keep].argmin(1)
        out[at_y, at_x] = np.where(part == 0, number, count + part)
        count += len(keep) - 1
    return out


def _resized(
    middles: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """How much of a middle each pixel is, 0..1, and x and y from it to its middle in pixels."""
    height, width = shape
    near, x, y = (
        np.asarray(cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        for m in middles
    )
    scale_y, scale_x = height / middles.shape[1], width / middles.shape[2]
    likely = np.asarray(1 / (1 + np.exp(-near)), np.float32)
    return likely, x * (MIDDLE_SCALE * scale_x), y * (MIDDLE_SCALE * scale_y)
