"""How networks want their images: size, range, order of the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.errors import one_line
from sam2vss_ros.sam2.functional import PIXEL_MEAN, PIXEL_STD
from sam2vss_ros.sizes import bounded_aspect

LEAST_SIDE, MOST_SIDE = 32, 2048
"""Pixels of an input whose size follows from the image's: networks halve it several times, and
what they hold grows with its area."""

MAX_SIDE = 8192
"""Pixels of the longest side that a class file may ask for."""

MAX_MULTIPLE = 512


@dataclass(frozen=True)
class Input:
    """Images from 0 to 1, less `mean`, divided by `std`; red first, or with `bgr` blue first.

    size: height and width that every image is squashed to. Without it images keep their shape:
    their shorter side gets `shortest` pixels (0: its own, but LEAST_SIDE at least), fewer where the
    longer one would exceed `longest` (0: MOST_SIDE); both are rounded to multiples of `multiple`.
    """

    size: tuple[int, int] | None = None
    shortest: int = 0
    longest: int = 0
    multiple: int = 1
    mean: Sequence[float] = PIXEL_MEAN
    std: Sequence[float] = PIXEL_STD
    bgr: bool = False

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this height and width gets."""
        if self.size is not None:
            return self.size
        sides = bounded_aspect(height, width)
        least, most = min(sides), max(sides)
        scale = self.shortest / least if self.shortest else max(1.0, LEAST_SIDE / least)
        scale = min(scale, (self.longest or MOST_SIDE) / most)
        rows, columns = (
            max(1, round(side * scale / self.multiple)) * self.multiple for side in sides
        )
        return rows, columns

    def tensor(self, image: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
        """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32."""
        rows, columns = self.size_for(*image.shape[:2])
        if image.shape[:2] != (rows, columns):
            shrinks = image.shape[0] > rows and image.shape[1] > columns
            interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, (columns, rows), interpolation=interpolation))
        if self.bgr:
            image = np.ascontiguousarray(image[..., ::-1])
        pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
        mean, std = (pixels.new_tensor(list(v)).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std


KEYS = ("size", "multiple", "mean", "std", "channels")


def parse_input(data: Any, source: str) -> Input:
    """Build an Input from the entry `input` of a class file: size, multiple, mean, std, channels.

    None stands for its defaults. Raises ValueError naming `source` and the key.
    """
    entry = {} if data is None else data
    if not isinstance(entry, dict) or set(entry) - set(KEYS):
        raise ValueError(
            f"{source}: input has the keys {', '.join(KEYS[:-1])} and {KEYS[-1]}, not "
            f"{one_line(repr(entry))}"
        )
    size, multiple = entry.get("size"), entry.get("multiple")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(is_side(v) for v in size)
    ):
        raise ValueError(
            f"{source}: input: size is [height, width] in pixels, up to {MAX_SIDE}, not "
            f"{one_line(repr(size))}"
        )
    if multiple is not None and not (is_side(multiple) and multiple <= MAX_MULTIPLE):
        raise ValueError(
            f"{source}: input: multiple is a number of pixels up to {MAX_MULTIPLE}, not "
            f"{one_line(repr(multiple))}"
        )
    channels = entry.get("channels", "rgb")
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"{source}: input: channels is rgb or bgr, not {one_line(repr(channels))}")
    mean, std = entry.get("mean", PIXEL_MEAN), entry.get("std", PIXEL_STD)
    for key, values in (("mean", mean), ("std", std)):
        check_range(key, values, f"{source}: input")
    return Input(
        size=None if size is None else (size[0], size[1]),
        multiple=multiple or 1,
        mean=mean,
        std=std,
        bgr=channels == "bgr",
    )


def check_range(key: str, values: Any, source: str) -> None:
    """Raise ValueError where a mean or a standard deviation (`key`: std) is not three of them."""
    numbers = isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )
    if not numbers or len(values) != 3 or (key.endswith("std") and min(values) <= 0):
        positive = ", above 0" if key.endswith("std") else ""
        raise ValueError(
            f"{source}: {key} is three numbers{positive}, not {one_line(repr(values))}"
        )


def is_side(value: Any) -> bool:
    """Whether it is a number of pixels that the side of an image may have."""
    return type(value) is int and 0 < value <= MAX_SIDE
