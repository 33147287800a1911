"""The frame-time budget: what is left out when frames take too long, and in which order.

Every level keeps what those before it left out:

1. discovery: new objects are looked for half as often, and only on schedule, and no image is
   looked at twice;
2. memory: each object's memory is written half as often;
3. interleave: objects take turns, each is followed on every fourth frame; on the others its mask
   moves with the image. An object that the image's motion does not carry, that is hidden or is not
   confirmed yet is followed on every frame;
4. carry: every second image is answered along the optical flow, however late it comes, where that
   is believed. Not where images are never to be carried.

An object that rests ages, is not missed, and stays in the answer: no level loses objects.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from sam2vss_ros.sam2.options import RestRule

WINDOW = 8
"""Frames whose mean time is held against the target."""
SLACK = 0.8
"""Share of the time allowed below which a level may be taken back."""
PATIENCE, MOST_PATIENCE = 32, 256
"""Frames with slack before a level is taken back; doubled whenever that did not last."""
REST = RestRule(agreement=0.8, turns=4)
"""Who rests at the third level."""


class Level(IntEnum):
    """How much is left out; a level includes those below it."""

    NOTHING = 0
    DISCOVERY = 1
    MEMORY = 2
    INTERLEAVE = 3
    CARRY = 4


DEGRADED = {
    Level.DISCOVERY: "new objects are looked for less often, and no image is looked at twice",
    Level.MEMORY: "memory is written less often",
    Level.INTERLEAVE: "objects are followed every fourth frame",
    Level.CARRY: "the networks look at every second image",
}


@dataclass(frozen=True)
class Effort:
    """What a frame is worth.

    early_search: new objects are also looked for before their time. search_stretch,
    memory_stretch: how many times longer than configured a search or a memory waits. rest: who
    rests, None for what the tracker's options say. alternate: after an image that the networks have
    looked at one may be carried, whenever that is. degraded: what is left out, in plain words;
    late: the target is missed although everything that may be left out is.
    """

    early_search: bool = True
    search_stretch: int = 1
    memory_stretch: int = 1
    rest: RestRule | None = None
    alternate: bool = False
    degraded: tuple[str, ...] = ()
    late: bool = False


class Budget:
    """Chooses the level from the seconds that frames took. `target_fps` 0: always NOTHING.

    One level is added when the mean of WINDOW frames is beyond 1 / `target_fps`, and one is taken
    back after `PATIENCE` frames with slack. Both begin a new window, so that a level is judged by
    its own frames. A frame counts at most double the time allowed: one hiccup changes nothing.

    most: the highest level; NOTHING for frames of which nothing can be left out.
    """

    def __init__(self, target_fps: float, most: Level = Level.CARRY) -> None:
        self.target_fps = target_fps
        self.most = most
        self.level = Level.NOTHING
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._patience = PATIENCE
        self._with_slack = 0  # frames in a row
        self._probation = 0  # frames until a recovery has lasted

    def effort(self) -> Effort:
        """What the next frame is worth."""
        return Effort(
            early_search=self.level < Level.DISCOVERY,
            search_stretch=1 if self.level < Level.DISCOVERY else 2,
            memory_stretch=1 if self.level < Level.MEMORY else 2,
            rest=None if self.level < Level.INTERLEAVE else REST,
            alternate=self.level >= Level.CARRY,
            degraded=tuple(words for level, words in DEGRADED.items() if level <= self.level),
            late=self.level == self.most and self._load() > 1,
        )

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
        self._with_slack = self._with_slack + 1 if 0 < load < SLACK else 0
        if load > 1 and self.level < self.most:
            if self._probation:
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._probation = 0
            self._change(+1)
        elif self._with_slack >= self._patience and self.level > Level.NOTHING:
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
        self._with_slack = 0
