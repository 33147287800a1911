"""Where the middles of things are: what the dense head learns to tell two cars apart by.

After Panoptic-DeepLab (Cheng et al., CVPR 2020, section 3.2): a map of middles, and for each pixel
of a thing the way to its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.segmenter import MIDDLE_SCALE

STRIDE = 4
LEAST_PIXELS = 6
"""Of a thing, at stride 4, below which its middle is not learned."""

SPREAD = 0.15
"""Deviation of the Gaussian at a middle, as a share of the root of the thing's area."""


def middle_targets(instances: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """(H, W) ids of things, 0 for none -> (4, H/4, W/4).

    How much of a middle a place is (0 to 1), x and y from it to the middle of its thing in
    `MIDDLE_SCALE`, and whether that is to be learned (0 or 1).
    """
    ids = instances[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    height, width = ids.shape
    targets = np.zeros((4, height, width), np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    for thing in np.unique(ids[ids > 0]):
        inside = ids == thing
        area = int(inside.sum())
        if area < LEAST_PIXELS:
            continue
        y, x = rows[inside].mean(), columns[inside].mean()
        deviation = np.clip(SPREAD * np.sqrt(area), 1.0, 5.0)
        near = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * deviation**2))
        np.maximum(targets[0], near, out=targets[0])
        targets[1][inside] = (x - columns[inside]) / MIDDLE_SCALE
        targets[2][inside] = (y - rows[inside]) / MIDDLE_SCALE
        targets[3][inside] = 1
    return targets


def middle_loss(middles: Tensor, targets: Tensor) -> Tensor:
    """Loss of the head's (B, 3, h, w) `middles` against (B, 4, h, w) targets."""
    near, offsets, learned = targets[:, 0], targets[:, 1:3], targets[:, 3]
    miss = (middles[:, 0].sigmoid() - near).square() * (1 + 20 * near)
    way = F.smooth_l1_loss(middles[:, 1:], offsets, reduction="none", beta=0.1).sum(1)
    return 10 * miss.mean() + (way * learned).sum() / learned.sum().clamp(min=1)
