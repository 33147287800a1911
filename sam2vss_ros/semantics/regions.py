"""Connected regions of equal class in a label image."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt


def connected_regions(
    classes: npt.NDArray[np.integer],
    inside: npt.NDArray[np.bool_] | None = None,
    *,
    connectivity: Literal[4, 8] = 4,
) -> npt.NDArray[np.int32]:
    """The number of the region that each pixel of (H, W) `classes` belongs to, (H, W) int32.

    Numbers start at 1 and go up class by class. Pixels outside of `inside`, (H, W) bool, are of no
    region: 0. connectivity: whether regions meet at edges alone (4) or at corners too (8).
    """
    regions = np.zeros(classes.shape, np.int32)
    count = 0
    for value in np.unique(classes if inside is None else classes[inside]):
        mask = classes == value if inside is None else (classes == value) & inside
        found, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)
        regions[mask] = parts[mask] + count
        count += found - 1
    return regions


def areas_of(regions: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The pixels of each region by its number, (count + 1,) int64; of number 0, no region, none."""
    areas = np.bincount(regions.ravel(), minlength=1)
    areas[0] = 0
    return areas
