"""Writing MP4 videos."""

from __future__ import annotations

import errno
import os
import resource
import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError

UNWRITTEN = 1 << 19
"""Bytes that a video may still need without new images: what FFmpeg gathers before it writes (a
quarter of a MB), and the index at the end."""

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
        if self._room() < image.nbytes // 4 + UNWRITTEN + INDEX_ENTRY * self._written:
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
        """Whether the index is there. (OpenCV, asked to open the file, complains on stderr.)"""
        at, end = 0, self._path.stat().st_size
        with self._path.open("rb") as file:
            while at + 16 <= end:
                file.seek(at)
                size, kind, large = struct.unpack(">I4sQ", file.read(16))
                size = large if size == 1 else size
                if kind == b"moov" or size < 8:
                    return kind == b"moov" and at + size <= end
                at += size
        return False

    def _full(self) -> OSError:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
