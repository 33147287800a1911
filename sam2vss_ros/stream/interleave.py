"""Whose turn it is to be followed: steady objects keep their mask on every second frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.tracker import Tracked

SMALL_AREA = 0.01
"""Share of the image below which an object is small."""


@dataclass(frozen=True)
class Calm:
    """Who may rest: objects whose mask overlaps the one before by the IoU `steady`, and small ones
    that overlap by `small`. Above 1: nobody."""

    steady: float
    small: float = 2.0


class Turns:
    """Lets calm objects rest on every second frame, half of them at a time.

    Objects go by any number that is theirs for good.
    """

    def __init__(self) -> None:
        self._last: Tracked | None = None
        self._row: dict[int, int] = {}  # object -> its place in `_last`
        self._motion: dict[int, tuple[float, bool]] = {}  # IoU with the mask before; is it small?
        self._resting: list[int] = []  # objects, on this frame
        self._rested: list[int] = []  # on the last

    def rest(self, able: Sequence[int], calm: Calm) -> Tracked | None:
        """Those of the objects `able` that rest on this frame, as they were on the last.

        Nobody rests on two frames in a row. None: nobody rests.
        """
        able = [i for i in able if i in self._motion and _is_calm(*self._motion[i], calm)]
        self._resting = [i for i in able if i not in self._rested][: (len(able) + 1) // 2]
        if not self._resting:
            return None
        assert self._last is not None
        return self._last.take([self._row[i] for i in self._resting])

    def note(self, objects: Sequence[int], tracked: Tracked | None) -> None:
        """Remember how the visible objects look at the end of a frame, in the order of `tracked`
        (None where there are none)."""
        motion = {i: self._motion[i] for i in self._resting}
        followed = [i for i in objects if i in self._row and i not in motion]
        row = {name: i for i, name in enumerate(objects)}
        if followed:
            assert self._last is not None and tracked is not None
            before = self._last.masks[[self._row[i] for i in followed]] > 0
            now = tracked.masks[[row[i] for i in followed]] > 0
            overlap, small = iou_of(before, now), now.float().mean((1, 2)) < SMALL_AREA
            motion |= zip(followed, zip(overlap.tolist(), small.tolist(), strict=True), strict=True)
        self._rested, self._resting = self._resting, []
        self._last, self._row = tracked, row
        self._motion = {i: seen for i, seen in motion.items() if i in row}


def _is_calm(overlap: float, small: bool, calm: Calm) -> bool:
    return overlap >= calm.steady or (small and overlap >= calm.small)
