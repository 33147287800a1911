"""Calibrations of cameras, in the terms of sensor_msgs/CameraInfo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2vss_ros.errors import one_line
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
            side_in_pixels(data, "image_width"),
            side_in_pixels(data, "image_height"),
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


def side_in_pixels(data: Mapping[str, Any], name: str) -> int:
    """The entry `name`, a side of an image. Raises KeyError, ValueError."""
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
