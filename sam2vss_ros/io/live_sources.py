"""Cameras and network streams without ROS: what `sam2vss run` opens beside files."""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import DEFAULT_RATE, FrameSource, check_capture, read_video
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}
LIVE_RATE = 10.0
"""Most frames per second that are taken of a live source."""

OPEN_SECONDS, READ_SECONDS = 5.0, 5.0
"""How long opening and the next image may take."""

LOST_SECONDS = 30.0
"""How long a source that fell silent is tried again."""

PAUSE_SECONDS = 0.5
"""Between two such attempts."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def is_live(source: str) -> bool:
    """Whether `source` is an address, the number of a camera (and no file), or its device."""
    number = source.isascii() and source.isdigit() and not Path(source).exists()
    return "://" in source or number or source.startswith("/dev/video")


def open_live(source: str, rate: float = 0.0, most: int = MOST_PIXELS) -> FrameSource | LiveSource:
    """Open a camera (`0`, `/dev/video0`) or an address (rtsp, rtsps, rtmp, http, https).

    `rate` in frames per second bounds what is taken (0: LIVE_RATE). A whole recording at an address
    is read in order like a file. Raises InputError, within seconds, with the reason, also where
    its images have more than `most` pixels.
    """
    if rate < 0:
        raise InputError(f"rate: {rate} is not a positive number of frames per second")
    try:
        capture = _in_time(functools.partial(_open, source))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{source} cannot be opened as a stream: {reason}") from error
    check_capture(capture, source, most)
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if "://" in source and 0 < count < 1e9:
        own_rate = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        read = functools.partial(read_video, source, most)
        return FrameSource(Path(source), rate or own_rate or DEFAULT_RATE, int(count), read)
    return LiveSource(source, rate or LIVE_RATE, capture)


class LiveSource:
    """The newest frames of a camera or stream, stamped with the time of their arrival.

    While it is entered as a context, the first SIGINT or SIGTERM ends it after the frame at hand;
    a second one does what it did before. Where the source falls silent it is opened again, for
    LOST_SECONDS; then it ends.
    """

    count = 0

    def __init__(self, source: str, rate: float, capture: cv2.VideoCapture) -> None:
        self.path, self.rate = Path(source), rate
        self._source = source
        self._stopped = threading.Event()
        self._arrived = threading.Condition()
        self._newest: Frame | None = None
        self._clock_ns = time.time_ns() - time.monotonic_ns()
        self._handlers: dict[signal.Signals, Any] = {}
        # A daemon: a driver that hangs must not keep the process.
        self._receiver = threading.Thread(target=self._receive, args=(capture,), daemon=True)
        self._receiver.start()

    def __enter__(self) -> LiveSource:
        self._handlers = {number: signal.signal(number, self._end) for number in ENDING_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._restore_handlers()
        # Python aborts where it ends while a thread is inside of OpenCV.
        self._receiver.join(READ_SECONDS + 1)

    def __iter__(self) -> Iterator[Frame]:
        """At most `rate` frames per second until the source ends; those in between are dropped.

        Raises InputError where none comes at all.
        """
        seen, due = 0, time.monotonic()
        while (frame := self._next(due)) is not None:
            seen, due = seen + 1, max(due, time.monotonic() - 1 / self.rate) + 1 / self.rate
            yield frame
        if seen == 0:
            raise InputError(f"{self._source}: the stream ended before its first image")

    def stop(self) -> None:
        """End the frames and give the source back."""
        self._stopped.set()

    def _next(self, due: float) -> Frame | None:
        """The newest frame, not before `due` (monotonic seconds); None where it has ended."""
        silent_at = time.monotonic() + READ_SECONDS + LOST_SECONDS
        while not self._stopped.is_set():
            now = time.monotonic()
            if now < due:
                self._stopped.wait(due - now)
                continue
            with self._arrived:
                if self._newest is None:
                    self._arrived.wait(0.1)
                frame, self._newest = self._newest, None
            if frame is not None:
                return frame
            if now > silent_at:
                log.warning(
                    "%s: no image for %.0f s, the stream has ended", self._source, LOST_SECONDS
                )
                return None
        return None

    def _receive(self, capture: cv2.VideoCapture) -> None:
        """Keep the newest image of the source, and open it again where it fails."""
        connected = True
        while not self._stopped.is_set():
            good, image = capture.read()
            if good:
                if not connected:
                    log.warning("%s: is back", self._source)
                connected = True
                rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
                with self._arrived:
                    self._newest = Frame(rgb, self._clock_ns + time.monotonic_ns())
                    self._arrived.notify()
                continue
            if connected:
                log.warning("%s: no more images come, trying again", self._source)
            connected = False
            capture.release()
            try:
                capture = _open(self._source)
            except OSError as error:
                log.debug("%s: %s", self._source, error)
            self._stopped.wait(PAUSE_SECONDS)
        capture.release()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.stop()
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _in_time(work: functools.partial[cv2.VideoCapture]) -> cv2.VideoCapture:
    """What `work` gives. Raises its OSError, or one where it takes too long, as drivers may."""
    done: list[cv2.VideoCapture | OSError] = []

    def run() -> None:
        try:
            done.append(work())
        except OSError as error:
            done.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(3 * OPEN_SECONDS)
    if not done:
        raise OSError("it does not answer")
    if isinstance(done[0], OSError):
        raise done[0]
    return done[0]


def _open(source: str) -> cv2.VideoCapture:
    """Open a camera or an address. Raises OSError with the reason."""
    if "://" not in source:
        device = f"/dev/video{int(source)}" if source.isdigit() else source
        if not os.path.exists(device):
            raise OSError(f"there is no {device}")
        if not os.access(device, os.R_OK | os.W_OK):
            raise OSError(f"{device} may not be read: is the user in the group video?")
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        reason = "it is in use, or is no camera"
    else:
        _check_answers(source)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * OPEN_SECONDS)]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * READ_SECONDS)]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        reason = "it answers, but without a video: are path, user and password right?"
    if not capture.isOpened():
        raise OSError(reason)
    return capture


def _check_answers(address: str) -> None:
    """Raise OSError with the reason where nobody listens at an address."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise OSError(f"it is no address: {error}") from error
    if parts.scheme not in PORTS:
        raise OSError(f"{parts.scheme!r} is not one of {', '.join(PORTS)}")
    if not parts.hostname:
        raise OSError("it names no host")
    try:
        end = parts.hostname, port or PORTS[parts.scheme]
        socket.create_connection(end, OPEN_SECONDS).close()
    except TimeoutError as error:
        raise OSError(f"no answer within {OPEN_SECONDS:.0f} s") from error
    except UnicodeError as error:
        raise OSError("its host is no name") from error
