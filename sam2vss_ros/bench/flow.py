"""Optical flow of a video (OpenCV's DIS; Kroeger et al., ECCV 2016): what moves where."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import Rgb

Places = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Image = TypeVar("Image", bound=npt.NDArray)

SMALLEST = 32
"""Pixels along each side of an image; in narrow ones OpenCV's flow reads beyond its memory."""


class BackwardFlow:
    """Where the pixels of a frame were on the frame before it."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: npt.NDArray[np.uint8] | None = None

    def step(self, image: Rgb) -> Places | None:
        """(H, W) x and y on the frame before, for the next frame of a video; None for the first.

        Raises InputError for images narrower than `SMALLEST`.
        """
        if min(image.shape[:2]) < SMALLEST:
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise InputError(f"data: images of {size}; optical flow needs {SMALLEST}x{SMALLEST}")
        now = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        before, self._before = self._before, now
        if before is None:
            return None
        flow = self._flow.calc(now, before, None)
        y, x = np.indices(now.shape, np.float32)
        return x + flow[..., 0], y + flow[..., 1]


def moved(image: Image, places: Places, interpolation: int) -> Image:
    """An (H, W) image of the frame before as the flow carries it on; 0 for what comes into view."""
    return cv2.remap(image, *places, interpolation, borderMode=cv2.BORDER_CONSTANT)
