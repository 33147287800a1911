"""Writing MP4 videos."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError

INDEX = 1 << 16
"""Bytes that a video may still need for a while without new images."""

INDEX_ENTRY = 32
"""Bytes at most that the end of the file says of each image."""


class VideoWriter:
    """An MP4 of RGB images, `rate` a second; the file is made with the first one.

    That gives the video its size, to the next even number; images of another size are scaled. An
    MP4 can be played once its end is written, which OpenCV does not tell from a failure: room is
    kept for it, and a video that lacks it is removed.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Append an (H, W, 3) uint8 image.

        Raises InputError where the file cannot be written, OSError where there is no room for more.
        """
        if self._writer is None:
            self._writer = self._open(image.shape[1], image.shape[0])
        if image.shape[1::-1] != self._size:
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        # A quarter of its bytes is more than the codec makes of an image, but for noise.
        if self._room() < image.nbytes // 4 + INDEX + INDEX_ENTRY * self._written:
            raise self._full()
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._written += 1

    def close(self) -> None:
        """Finish the file. Raises OSError where that fails; then there is none."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not self._complete():
            self._path.unlink(missing_ok=True)
            if self._written:
                raise self._full()

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        self._size = width + width % 2, height + height % 2  # the codec stores even sizes only
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._path), codec, self._rate, self._size)
        if not writer.isOpened():
            raise InputError(f"{self._path} cannot be written as a video")
        return writer

    def _room(self) -> int:
        """Bytes by which the file may still grow."""
        disk = os.statvfs(self._path)
        free = disk.f_bavail * disk.f_frsize
        most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)  # ulimit -f
        if most == resource.RLIM_INFINITY:
            return free
        return min(free, most - self._path.stat().st_size)

    def _complete(self) -> bool:
        video = cv2.VideoCapture(str(self._path))
        count = video.get(cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0
        video.release()
        return count > 0 and count >= self._written

    def _full(self) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
