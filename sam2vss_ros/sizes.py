"""Bounds of the sizes that are derived from an image's: no shape of image costs more than others.

What is made smaller or larger with its aspect kept gets a longer side of some length; the shorter
one of a line camera, say, would be no pixel at all, and the longer one without end where it follows
from the shorter.
"""

from __future__ import annotations

MOST_ASPECT = 8
"""Sides are seen as at most so many times as long as each other; longer images are squashed."""

LEAST_SIDE = 8
"""Pixels on the shorter side of what a camera may send."""


def is_odd(height: int, width: int) -> bool:
    """Whether an image is longer or smaller than cameras make them."""
    return bounded_aspect(height, width) != (height, width) or min(height, width) < LEAST_SIDE


def bounded_aspect(height: float, width: float) -> tuple[float, float]:
    """Height and width whose ratio derived sizes take: the shorter one grows where it must."""
    return max(height, width / MOST_ASPECT), max(width, height / MOST_ASPECT)


def with_longer_side(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width, of which the larger is `longer`, in the bounded aspect of an image."""
    rows, columns = bounded_aspect(height, width)
    scale = longer / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def other_side(length: int, along: int, across: int) -> int:
    """The side across one of `length`, in the bounded aspect of an image of `along` by `across`."""
    sides = bounded_aspect(along, across)
    return max(1, round(length * sides[1] / sides[0]))
