"""Writing MP4 videos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError


class VideoWriter:
    """An MP4 of RGB images, `rate` a second; the file is made with the first one.

    That gives the video its size, to the next even number; images of another size are scaled.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append an (H, W, 3) uint8 image. Raises InputError where the file cannot be written."""
        if self._writer is None:
            self._writer = self._open(image.shape[1], image.shape[0])
        if image.shape[1::-1] != self._size:
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        self._size = width + width % 2, height + height % 2  # the codec stores even sizes only
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._path), codec, self._rate, self._size)
        if not writer.isOpened():
            raise InputError(f"{self._path} cannot be written as a video")
        return writer
