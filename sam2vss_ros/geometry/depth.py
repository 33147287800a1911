"""Depth images in metres."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError

Depth = npt.NDArray[np.float32]
"""(H, W) metres along the optical axis, NaN where nothing was measured."""

METRES = {np.dtype(np.uint16): 1e-3, np.dtype(np.float32): 1.0}
"""Metres per unit: 16 bits (16UC1) hold millimetres, floating point (32FC1) metres."""


def to_metres(pixels: npt.NDArray[Any], scale: float = 0.0) -> Depth:
    """Depth in metres of (H, W) uint16 millimetres or float32 metres.

    scale: metres per unit, instead of what the type says; 0: what the type says. What is not
    finite, and 0 or less, was not measured. Raises InputError for other arrays and scales.
    """
    metres = METRES.get(pixels.dtype.newbyteorder("="))
    if pixels.ndim != 2 or metres is None:
        raise InputError(
            f"a depth image holds one number per pixel, uint16 (millimetres) or float32 (metres), "
            f"not {pixels.dtype} of shape {pixels.shape}"
        )
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError(f"depth_scale: {scale:g} is not a number of metres per unit above 0")
    depth = pixels.astype(np.float32)
    if (scale or metres) != 1.0:
        depth *= np.float32(scale or metres)
    depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth
