"""Who may rest: steady objects are followed on every second frame only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.tracker import Tracked

SMALL_AREA = 0.01
"""Share of the image below which an object is small."""


@dataclass(frozen=True)
class RestRule:
    """Which objects may rest, by the least IoU of their mask with the one before.

    steady: for every object. small: for small ones; None: as for every object.
    """

    steady: float
    small: float | None = None

    def allows(self, overlap: float, small: bool) -> bool:
        """Whether an object rests whose mask overlaps the one before by `overlap`."""
        least = self.small if small and self.small is not None else self.steady
        return overlap >= least


class Interleave:
    """Lets steady objects rest on every second frame, half of them at a time.

    Objects go by any number that is theirs for good. nothing: a batch without objects.
    """

    def __init__(self, nothing: Tracked) -> None:
        self._last = nothing
        self._row: dict[int, int] = {}  # object -> its place in `_last`
        self._motion: dict[int, tuple[float, bool]] = {}  # IoU with the mask before; is it small?
        self._resting: list[int] = []  # objects, on this frame
        self._rested: list[int] = []  # on the last

    def rest(self, able: Sequence[int], rule: RestRule | None) -> tuple[list[int], Tracked]:
        """Those of the objects `able` that rest on this frame, and how they were on the last.

        Nobody rests on two frames in a row, and nobody at all without a rule.
        """
        steady = [i for i in able if rule and i in self._motion and rule.allows(*self._motion[i])]
        self._resting = [i for i in steady if i not in self._rested][: (len(steady) + 1) // 2]
        return self._resting, self._last.take([self._row[i] for i in self._resting])

    def note(self, objects: Sequence[int], tracked: Tracked) -> None:
        """Remember the visible objects at the end of a frame, in the order of `tracked`."""
        motion = {i: self._motion[i] for i in self._resting}
        followed = [i for i in objects if i in self._row and i not in motion]
        row = {name: i for i, name in enumerate(objects)}
        if followed:
            before = self._last.masks[[self._row[i] for i in followed]] > 0
            now = tracked.masks[[row[i] for i in followed]] > 0
            overlap, small = iou_of(before, now), now.float().mean((1, 2)) < SMALL_AREA
            motion |= zip(followed, zip(overlap.tolist(), small.tolist(), strict=True), strict=True)
        self._rested, self._resting = self._resting, []
        self._last, self._row = tracked, row
        self._motion = {i: seen for i, seen in motion.items() if i in row}
