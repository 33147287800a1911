"""A small video whose frames can be told apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, frames: int = 5, rate: float = 25.0) -> Path:
    """Frames of 64 x 48 pixels: red, brighter from frame to frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), (0, 0, 50 + 40 * i), np.uint8))
    writer.release()
    return path
