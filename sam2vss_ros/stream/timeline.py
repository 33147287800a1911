"""Time that runs backwards: an image out of order, or a stream that begins anew."""

from __future__ import annotations

import enum


class Place(enum.Enum):
    """Where a frame belongs in its stream."""

    NEXT = enum.auto()
    LATE = enum.auto()  # a little older than the last: out of order
    ANEW = enum.auto()  # much older: the first of another stream, as of a bag that loops


class Timeline:
    """Places each frame of a stream by its stamp.

    A step back of at most `max_step_back` seconds is disorder. Where the late frames go on for
    longer than that without catching up, time was set back for good: a short clip that loops. A
    larger step back to just behind the frame before the last undoes a stamp that was wrong.
    """

    def __init__(self, max_step_back: float) -> None:
        self.last_ns: int | None = None
        self._before_ns: int | None = None  # the frame before the last
        self._most_ns = round(max_step_back * 1e9)
        self._late_ns: int | None = None  # the last late frame since then
        self._late_for_ns = 0  # by which the late frames have moved on

    def place(self, stamp_ns: int) -> Place:
        """Where the next frame belongs. Raises ValueError where it has the stamp of the last."""
        if self.last_ns is None or stamp_ns > self.last_ns:
            return Place.NEXT
        if stamp_ns == self.last_ns and self._late_ns is None:
            raise ValueError(f"two frames with stamp {stamp_ns} ns")
        if self.last_ns - stamp_ns > self._most_ns:
            follows = self._before_ns is not None and (
                0 < stamp_ns - self._before_ns <= self._most_ns
            )
            return Place.NEXT if follows else Place.ANEW
        before = stamp_ns if self._late_ns is None else self._late_ns
        late_for_ns = self._late_for_ns + max(0, stamp_ns - before)
        if late_for_ns > self._most_ns:
            return Place.ANEW
        self._late_ns, self._late_for_ns = stamp_ns, late_for_ns
        return Place.LATE

    def advance(self, stamp_ns: int) -> None:
        """A frame that is not late is taken."""
        self._before_ns, self.last_ns = self.last_ns, stamp_ns
        self._late_ns, self._late_for_ns = None, 0
