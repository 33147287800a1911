"""The pinhole camera of a recording, from whatever file has its K."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2vss_ros.errors import InputError, one_line
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.io.calibration import side_in_pixels
from sam2vss_ros.io.yaml_files import read_yaml


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera as a file has it. size: width and height of its images in pixels, and
    metres_per_unit of its depth images; None where the file does not say."""

    camera: PinholeCamera
    size: tuple[int, int] | None = None
    metres_per_unit: float | None = None


def load_intrinsics(path: Path) -> Intrinsics:
    """Read a camera from YAML or JSON: ROS's calibration file, or whatever has its K.

    K, k or camera_matrix hold nine numbers, or three rows of three. width and height, or
    image_width and image_height, say the size; depth_factor how many units of depth are a metre.
    All that may stand once for each frame, if it is always the same. Raises InputError naming
    the file and what is wrong with it.
    """
    try:
        data = read_yaml(path)
        if not isinstance(data, dict) or not data:
            raise ValueError("it has no K")
        by_frame = all(_k_of(entry) for entry in data.values())
        cameras = {_intrinsics(entry) for entry in (data.values() if by_frame else [data])}
        if len(cameras) > 1:
            raise ValueError(f"it has {len(cameras)} different cameras: give the one of the frames")
        return cameras.pop()
    except FileNotFoundError:
        raise InputError(f"camera info {path} does not exist") from None
    except (OSError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: no camera can be read from it: {one_line(error)}") from error


def _intrinsics(data: Mapping[str, Any]) -> Intrinsics:
    k = _k_of(data)
    if k is None:
        raise ValueError("it has no K (K, k or camera_matrix) of nine numbers")
    names = ("image_width", "image_height") if "image_width" in data else ("width", "height")
    size = None
    if all(name in data for name in names):
        size = side_in_pixels(data, names[0]), side_in_pixels(data, names[1])
    factor = data.get("depth_factor")
    if factor is not None and not (_is_number(factor) and factor > 0):
        raise ValueError(f"depth_factor is units per metre, above 0, not {factor!r}")
    return Intrinsics(PinholeCamera.of(k), size, 1 / factor if factor else None)


def _k_of(data: Any) -> list[float] | None:
    """The nine numbers of K, None where there are none."""
    if not isinstance(data, dict):
        return None
    k = next((data[name] for name in ("K", "k", "camera_matrix") if name in data), None)
    if isinstance(k, dict):
        k = k.get("data")
    if isinstance(k, list) and len(k) == 3 and all(isinstance(row, list) for row in k):
        k = [number for row in k for number in row]
    if not isinstance(k, list) or len(k) != 9 or not all(map(_is_number, k)):
        return None
    return [float(number) for number in k]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
