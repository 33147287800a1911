"""How exactly and how fast objects are tracked: the options of the tracker and their presets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackingOptions:
    """What may be left out of SAM 2's arithmetic; the default leaves out nothing.

    local: an object is looked for, decoded and remembered in a window around its last masks, where
    the image has `windows.LEAST_GRID` tokens or more on a side (512 pixels).
    steady: an object whose mask overlaps its last one by this IoU is followed on every second frame
    only, see `stream.interleave`; None: every object on every frame.
    """

    local: bool = False
    steady: float | None = None


PRESETS = {
    "exact": TrackingOptions(),
    "fast": TrackingOptions(local=True, steady=0.96),
}
"""The presets by the names under which users choose them."""
