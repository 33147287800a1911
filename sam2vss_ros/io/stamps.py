"""When the images of a camera were taken: what their stamps say, or else when they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sam2vss_ros.errors import ImageError

STANDSTILL = 3
"""Images on end with one stamp from which the camera is taken not to stamp them."""


class CaptureTimes:
    """The times of a camera's images, in the order in which they come.

    An image is placed by its stamp. One without (its stamp is 0 and it is not the first, as that of
    a simulation may be; or its stamp stands still) is placed as long after the image before as it
    came after it: so time goes on whether a camera never stamps or forgets it now and then.

    unstamped: no stamp counts and the first image is placed where it came, since that is known
    beforehand; afterwards whether the last image went by its arrival.
    """

    def __init__(self, unstamped: bool = False) -> None:
        self.unstamped = unstamped
        self._never = unstamped
        self._stamp: int | None = None
        self._repeated = 0
        self._time_ns = self._came_ns = 0  # of the last image

    def of(self, stamp_ns: int, came_ns: int) -> int:
        """The time of the next image in ns. came_ns: its arrival, on a clock that only rises.

        Raises ImageError for the second image on end with one stamp.
        """
        first = self._stamp is None
        self._repeated = self._repeated + 1 if stamp_ns == self._stamp else 1
        self._stamp = stamp_ns
        missing = stamp_ns == 0 and not first
        self.unstamped = self._never or missing or self._repeated >= STANDSTILL
        if not self.unstamped and self._repeated > 1:
            raise ImageError(
                "stamp used twice", f"two images in a row have the stamp {stamp_ns} ns"
            )
        if not self.unstamped:
            self._time_ns = stamp_ns
        elif first:
            self._time_ns = came_ns
        else:
            self._time_ns += max(1, came_ns - self._came_ns)
        self._came_ns = came_ns
        return self._time_ns


def stand_still(stamps_ns: Sequence[int]) -> bool:
    """Whether the first stamps of a recording show that its camera does not stamp its images."""
    return len(set(stamps_ns)) == 1 and (stamps_ns[0] == 0 or len(stamps_ns) >= STANDSTILL)


def header_stamp_ns(message: Any) -> int:
    """Nanoseconds of the stamp in a message's header."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
