"""The images of one camera that wait for the worker."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage, Image

from sam2vss_ros.io.stamps import header_stamp_ns


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, in monotonic seconds."""

    message: Image | CompressedImage
    time: float


MOST_BYTES = 1 << 31
"""Of the images that wait: 300 of 2 megapixels in colour, fewer of larger ones."""


class Mailbox:
    """At most `size` images wait, of MOST_BYTES together. When one more comes, `latest` discards
    the oldest that waits and otherwise the newcomer is refused, so that what is taken is an
    unbroken beginning of what came. A newcomer that is at most `max_step_back` seconds older than
    the newest does not displace it.

    `since` is when the first of them began to wait, in monotonic seconds, None while nothing waits.
    The worker's lock guards it.
    """

    def __init__(self, size: int, latest: bool, max_step_back: float = 0.0) -> None:
        self.since: float | None = None
        self._size = size
        self._latest = latest
        self._most_late_ns = round(max_step_back * 1e9)
        self._held: Arrival | None = None
        self._waiting: deque[Arrival] = deque()
        self._bytes = 0  # of what waits

    def put(self, arrival: Arrival) -> bool:
        """Take an image; False when one (this or an older) was dropped."""
        size = len(arrival.message.data)
        full = bool(self._waiting) and (
            len(self._waiting) >= self._size or self._bytes + size > MOST_BYTES
        )
        if full and (not self._latest or self._is_late(arrival)):
            return False
        if full:
            self._next()
        self._waiting.append(arrival)
        self._bytes += size
        self.since = self.since or arrival.time
        return not full

    def _is_late(self, arrival: Arrival) -> bool:
        newest, stamp = (header_stamp_ns(a.message) for a in (self._waiting[-1], arrival))
        return 0 < newest - stamp <= self._most_late_ns

    def first(self) -> Arrival | None:
        """The image that is to be taken next."""
        return self._held or (self._waiting[0] if self._waiting else None)

    @property
    def holds(self) -> bool:
        """Whether the first image is in hand: see `hold`."""
        return self._held is not None

    def hold(self) -> None:
        """The first image waits for something that is on its way: newer ones do not replace it."""
        if self._held is None and self._waiting:
            self._held = self._next()

    def take(self) -> Arrival:
        """Hand over the first image. Raises IndexError where none waits."""
        arrival, self._held = self._held or self._next(), None
        self.since = time.monotonic() if self._waiting else None
        return arrival

    def clear(self) -> int:
        """Drop what waits; returns how many images that were."""
        dropped = len(self._waiting) + (self._held is not None)
        self._held, self.since = None, None
        self._waiting.clear()
        self._bytes = 0
        return dropped

    def _next(self) -> Arrival:
        arrival = self._waiting.popleft()
        self._bytes -= len(arrival.message.data)
        return arrival
