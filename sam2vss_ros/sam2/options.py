"""How exactly and how fast objects are tracked: the options of the tracker and their presets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RestRule:
    """Who may rest on a frame: its mask is carried along the flow instead of being looked for.

    agreement: the least IoU of a carried mask with what is found, as far as that can be foreseen,
    see `stream.interleave`. turns: an object is followed on one of so many frames at the least.
    """

    agreement: float
    turns: int


@dataclass(frozen=True)
class TrackingOptions:
    """What may be left out of SAM 2's arithmetic; the default leaves out nothing.

    local: an object is looked for, decoded and remembered in a window around its last masks, where
    the image has `windows.LEAST_GRID` tokens or more on a side (512 pixels).
    rest: who may rest; None: every object is followed on every frame.
    """

    local: bool = False
    rest: RestRule | None = None


PRESETS = {
    "exact": TrackingOptions(),
    "fast": TrackingOptions(local=True, rest=RestRule(agreement=0.9, turns=3)),
}
"""The presets by the names under which users choose them."""
