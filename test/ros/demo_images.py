"""What the tests of the demo show its cameras, and what it filmed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

SIZE = (64, 48)


def picture(value: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    image = np.full((height, width, 3), value, np.uint8)
    image[:, : width // 2, 0] = 255 - value
    return image


def header(nanoseconds: int = 0) -> Header:
    seconds, rest = divmod(nanoseconds, 10**9)
    return Header(stamp=Time(sec=seconds, nanosec=rest), frame_id="camera")


def frames_of(video: Path) -> list[npt.NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (grabbed := capture.read())[0]:
        frames.append(grabbed[1])
    return frames
