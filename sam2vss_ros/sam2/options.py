"""How exactly and how fast objects are tracked: the options of the engine and their presets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """What the engine may leave out of SAM 2's arithmetic; the default leaves out nothing.

    local: an object is looked for, decoded and remembered in a window around its last masks, where
    the image has `windows.LEAST_GRID` tokens or more on a side (512 pixels).
    steady: an object whose mask overlaps its last one by this IoU is followed on every second frame
    only, see `turns`; above 1: every object on every frame.
    memories: most recent memories that are looked at, 0 for all that the network keeps.
    """

    local: bool = False
    steady: float = 2.0
    memories: int = 0


ENGINES = {
    "exact": Engine(),
    "fast": Engine(local=True, steady=0.96),
}
"""The presets by the names under which users choose them."""
