"""The frame-time budget: what is left out when frames take too long, and in which order.

Every level keeps what those before it left out:

1. discovery: new objects are looked for half as often, and no longer when much is unexplained;
2. memory: each object's memory is written half as often;
3. turns: small or steady objects are followed on every second frame, half of them at a time; on
   the other they keep their last mask. An object that moves much, is hidden or is not confirmed
   yet is followed on every frame.

An object whose turn it is not ages, is not missed, and stays in the answer: no level loses objects.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from torch import Tensor

from sam2vss_ros.objects import Track
from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.types import TrackState

WINDOW = 8
"""Frames whose mean time is held against the target."""
ROOM = 0.8
"""Share of the time allowed below which a level may be taken back."""
PATIENCE, MOST_PATIENCE = 32, 256
"""Frames with room before a level is taken back; doubled whenever that did not last."""
STEADY_IOU, SMALL_IOU, SMALL_AREA = 0.85, 0.5, 0.01
"""An object may rest when its mask overlaps the one before by STEADY_IOU, or by SMALL_IOU where it
covers less than SMALL_AREA of the image."""


class Level(IntEnum):
    """How much is left out; a level includes those below it."""

    NOTHING = 0
    DISCOVERY = 1
    MEMORY = 2
    TURNS = 3


DEGRADED = {
    Level.DISCOVERY: "new objects are looked for less often",
    Level.MEMORY: "memory is written less often",
    Level.TURNS: "small or steady objects are followed every second frame",
}


class Budget:
    """Chooses the level from the seconds that frames took. `target_fps` 0: always NOTHING.

    One level is added when the mean of WINDOW frames is beyond 1 / `target_fps`, and one is taken
    back after `PATIENCE` frames with room. Both begin a new window, so that a level is judged by
    its own frames. A frame counts at most double the time allowed: one hiccup changes nothing.
    """

    def __init__(self, target_fps: float) -> None:
        self.target_fps = target_fps
        self.level = Level.NOTHING
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._patience = PATIENCE
        self._calm = 0  # frames in a row with room
        self._probation = 0  # frames until a recovery has lasted

    @property
    def degraded(self) -> tuple[str, ...]:
        """What is left out, in plain words; empty when nothing is."""
        return tuple(words for level, words in DEGRADED.items() if level <= self.level)

    @property
    def late(self) -> bool:
        """The target is missed although everything that may be left out is."""
        return self.level == max(Level) and self._load() > 1

    def observe(self, seconds: float) -> None:
        """A frame took so long."""
        if not self.target_fps:
            return
        self._seconds.append(min(seconds, 2 / self.target_fps))
        if self._probation:
            self._probation -= 1
            if not self._probation:
                self._patience = PATIENCE
        load = self._load()
        self._calm = self._calm + 1 if 0 < load < ROOM else 0
        if load > 1 and self.level < max(Level):
            if self._probation:
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._probation = 0
            self._change(+1)
        elif self._calm >= self._patience and self.level > Level.NOTHING:
            self._probation = self._patience
            self._change(-1)

    def _load(self) -> float:
        """Mean time of a full window as a share of the time allowed; 0 until it is full."""
        if len(self._seconds) < WINDOW:
            return 0.0
        return sum(self._seconds) / WINDOW * self.target_fps

    def _change(self, step: int) -> None:
        self.level = Level(self.level + step)
        self._seconds.clear()
        self._calm = 0


class Turns:
    """Whose turn it is to be followed, and the last masks of those whose turn it is not."""

    def __init__(self) -> None:
        self._last: Tracked | None = None
        self._row: dict[int, int] = {}  # track id -> its place in `_last`
        self._calm: set[int] = set()  # ids of small or steady objects
        self._resting: list[int] = []  # ids, on this frame

    def rest(self, tracks: list[Track]) -> Tracked | None:
        """Those of `tracks` that rest on this frame, as they were on the last; None: nobody does.

        Half of the small or steady ones do, but nobody on two frames in a row.
        """
        able = [
            t.track_id
            for t in tracks
            if t.track_id in self._calm and t.state == TrackState.CONFIRMED and not t.missed
        ]
        rested = set(self._resting)
        self._resting = [i for i in able if i not in rested][: (len(able) + 1) // 2]
        if not self._resting:
            return None
        assert self._last is not None
        return self._last.take([self._row[i] for i in self._resting])

    def note(self, ids: list[int], tracked: Tracked | None) -> None:
        """Remember how the visible objects look at the end of a frame; `ids` in their order."""
        calm = self._calm & set(self._resting)
        followed = [i for i in ids if i in self._row and i not in calm]
        row = {track_id: i for i, track_id in enumerate(ids)}
        if followed:
            assert self._last is not None and tracked is not None
            before = self._last.masks[[self._row[i] for i in followed]] > 0
            now = tracked.masks[[row[i] for i in followed]] > 0
            calm |= {i for i, yes in zip(followed, _calm(before, now), strict=True) if yes}
        self._last, self._row, self._calm = tracked, row, calm & row.keys()


def _calm(before: Tensor, now: Tensor) -> list[bool]:
    """Which of (B, s, s) bool masks are small or steady from one frame to the next."""
    overlap = iou_of(before, now)
    small = now.float().mean((1, 2)) < SMALL_AREA
    return ((overlap >= STEADY_IOU) | (small & (overlap >= SMALL_IOU))).tolist()
