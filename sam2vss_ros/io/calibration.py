"""Calibrations of cameras, in the terms of sensor_msgs/CameraInfo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2vss_ros.errors import InputError, one_line
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.io.yaml_files import read_yaml

MAX_SIDE = 65535
"""Pixels of the side of an image."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Calibration:
    """The fields of a CameraInfo. Sizes and focal lengths in pixels, matrices in row order.

    d: parameters of the distortion model. k: (9,) intrinsics. r: (9,) rectification.
    p: (12,) projection.
    """

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


def pinhole(width: int, height: int, field_of_view: float) -> Calibration:
    """An ideal camera that looks straight ahead; `field_of_view` is horizontal, in degrees.

    Raises ValueError for an angle that no pinhole camera has.
    """
    if not 0 < field_of_view < 180:
        raise ValueError(f"a field of view lies between 0 and 180 degrees, not {field_of_view}")
    focal = width / 2 / math.tan(math.radians(field_of_view) / 2)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    k = (focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0)
    p = (focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Calibration(width, height, "plumb_bob", (0.0,) * 5, k, IDENTITY, p)


def load_calibration(path: Path) -> Calibration:
    """Read the YAML file that ROS's camera_calibration writes.

    Raises FileNotFoundError, and ValueError naming the file and what is wrong with it.
    """
    try:
        data = read_yaml(path)
        if not isinstance(data, dict):
            raise ValueError("it has no image_width, camera_matrix and so on")
        return Calibration(
            _pixels(data, "image_width"),
            _pixels(data, "image_height"),
            str(data["distortion_model"]),
            _matrix(data, "distortion_coefficients", None),
            _matrix(data, "camera_matrix", 9),
            _matrix(data, "rectification_matrix", 9),
            _matrix(data, "projection_matrix", 12),
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"calibration {path} does not exist") from None
    except KeyError as error:
        raise ValueError(f"{path}: not a camera calibration: {error} is missing") from error
    except (OSError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a camera calibration: {one_line(error)}") from error


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
        size = _pixels(data, names[0]), _pixels(data, names[1])
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


def _pixels(data: Mapping[str, Any], name: str) -> int:
    if type(data[name]) is not int or not 0 < data[name] <= MAX_SIDE:
        raise ValueError(f"{name} is pixels from 1 to {MAX_SIDE}, not {data[name]!r}")
    return int(data[name])


def _matrix(data: Mapping[str, Any], name: str, size: int | None) -> tuple[float, ...]:
    if not isinstance(data[name], dict) or not isinstance(data[name].get("data"), list):
        raise ValueError(f"{name} has no list `data` of numbers")
    numbers = tuple(float(v) for v in data[name]["data"])
    if size is not None and len(numbers) != size:
        raise ValueError(f"{name} has {len(numbers)} numbers, not {size}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} has a number that is not finite")
    return numbers
