"""The pinhole camera of a depth image."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError, few

Rays = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class PinholeCamera:
    """Focal lengths and principal point in pixels, pixel centres at whole numbers.

    Raises InputError for numbers that no camera has.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not all(map(math.isfinite, numbers)) or self.fx <= 0 or self.fy <= 0:
            raise InputError(
                f"K: fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g} are no "
                "camera's: focal lengths are above 0; is the camera calibrated?"
            )

    @classmethod
    def of(cls, k: Sequence[float]) -> PinholeCamera:
        """Of the nine numbers of K, row by row. Raises InputError."""
        if len(k) != 9:
            raise InputError(f"K has 9 numbers, row by row, not {len(k)}: {few(k)}")
        return cls(float(k[0]), float(k[4]), float(k[2]), float(k[5]))

    def rays(self, height: int, width: int) -> Rays:
        """x / z of every column, (width,), and y / z of every row, (height,), float32."""
        return _rays(self, height, width)


@functools.lru_cache(maxsize=8)
def _rays(camera: PinholeCamera, height: int, width: int) -> Rays:
    x = (np.arange(width) - camera.cx) / camera.fx
    y = (np.arange(height) - camera.cy) / camera.fy
    return x.astype(np.float32), y.astype(np.float32)
