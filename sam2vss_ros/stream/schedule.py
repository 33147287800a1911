"""When the networks look at a stream's images, when it looks for new objects, and when it writes
the memories of those it has."""

from __future__ import annotations

from collections.abc import Iterable

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.stream.budget import Effort
from sam2vss_ros.stream.scene import SHORTEST_JUMP_NS

SOON = 8
"""Frames from a search to the next one for what looks like a new object."""

USUAL_RATE = 30.0
"""Frames a second at which waits are meant: of a slower camera, or where images are left out, each
counts for several. More changes from one to the next."""


SHORTEST_NS = 50_000_000
"""Nanoseconds from a look of the networks to the next: of a camera of 24 or 30 Hz they see every
second image, of one of 20 or less all."""

MOST_CARRIED = 2
"""Images between two looks, however close their stamps are."""


class LookSchedule:
    """Which images the networks look at.

    It goes by the stamps alone, so that who looks ahead can tell; where time is short, or images
    are dropped, looks `alternate` with images that are carried, but for those after what may be a
    jump in time. Who has to look at another image does so; that changes nothing of whose turn is
    next.
    """

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._carried = 0

    def due(self, stamp_ns: int, alternate: bool = False) -> bool:
        """Whether it is the turn of the next image, taken at that time."""
        if self._last_ns is None or self._carried == MOST_CARRIED:
            return True
        since_ns = abs(stamp_ns - self._last_ns)
        alternate = alternate and not self._carried and since_ns < SHORTEST_JUMP_NS
        return since_ns >= SHORTEST_NS and not alternate

    def add(self, stamp_ns: int, alternate: bool = False) -> bool:
        """The next image comes; whether it is its turn."""
        due = self.due(stamp_ns, alternate)
        if due:
            self._last_ns, self._carried = stamp_ns, 0
        else:
            self._carried += 1
        return due


class SearchSchedule:
    """Keyframes: every `keyframe_interval` frames, and sooner for what is new.

    New is what is unexplained, or looks like an object and is none, beyond the least that was since
    the last search.
    """

    def __init__(self) -> None:
        self._last = 0
        self._last_ns = 0
        self._least_unexplained = self._least_novel = 0.0

    def due(
        self,
        index: int,
        stamp_ns: int,
        unexplained: float,
        novel: float,
        useful: bool,
        config: PipelineConfig,
        effort: Effort,
    ) -> bool:
        """Whether frame `index`, taken at `stamp_ns`, is searched.

        unexplained: share of its pixels without an object; novel: of those that should have one.
        useful: an object can be added or recognised.
        """
        waited = index - self._last
        if not effort.early_search:
            return waited >= effort.search_stretch * config.keyframe_interval
        if config.discovery != "grid":  # which takes as long as many frames
            waited = max(waited, round(USUAL_RATE * (stamp_ns - self._last_ns) / 1e9))
        self._least_unexplained = min(self._least_unexplained, unexplained)
        self._least_novel = min(self._least_novel, novel)
        if waited >= config.keyframe_interval:
            return True
        much = unexplained - self._least_unexplained >= config.min_unexplained
        object_like = waited >= SOON and novel - self._least_novel >= config.min_area
        return useful and (much or object_like)

    def searched(self, index: int, stamp_ns: int, unexplained: float, novel: float) -> None:
        """The frame was searched; these shares of its pixels are still without an object."""
        self._last, self._last_ns = index, stamp_ns
        self._least_unexplained, self._least_novel = unexplained, novel


class MemorySchedule:
    """Every object's memory is due once in each interval, and stays due until it is written."""

    def __init__(self) -> None:
        self._owed: set[int] = set()  # slots

    def begin(
        self, index: int, slots: Iterable[int], config: PipelineConfig, effort: Effort
    ) -> None:
        """Frame `index`, on which the objects of `slots` are followed, begins."""
        if index % (config.memory_interval * effort.memory_stretch) == 0:
            self._owed = set(slots)

    def due(self, slot: int) -> bool:
        """Whether a memory is due."""
        return slot in self._owed

    def written(self, slots: Iterable[int]) -> None:
        """Memories were written."""
        self._owed.difference_update(slots)
