"""Things that nobody has seen: bodies with limbs, of several materials, that bend as they move.

What is cut out of stills is rigid and mostly of one piece. A tracker meets people and animals,
whose parts look different and move differently.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.pasted import Cutout, Rgb

SIDE = 176
"""Pixels of a creature's picture, square."""

MOST_LIMBS, MOST_MATERIALS = 6, 5
WAVES = 3
"""That run through what bends."""

BENDING = 0.05
"""Deviation of a wave's height, as a share of the thing's size."""

PERIOD = (14, 60)
"""Bounds of the frames that a wave takes."""


def creature(rng: np.random.Generator, materials: Sequence[Rgb]) -> Cutout:
    """A body with limbs, each part of which shows one of `materials`, pictures of SIDE square."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    middle, axes = np.full(2, SIDE / 2), rng.uniform(0.1, 0.26, 2) * SIDE
    cv2.ellipse(mask, _pixel(middle), _pixel(axes), rng.uniform(0, 180), 0, 360, 1, -1)
    for _ in range(int(rng.integers(MOST_LIMBS + 1))):
        _limb(mask, rng, middle + rng.normal(0, 0.4, 2) * axes)
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    return Cutout(_patched(rng, materials), mask)


def _limb(mask: npt.NDArray[np.uint8], rng: np.random.Generator, place: npt.NDArray) -> None:
    """A line of a few pieces, perhaps with a hand or a head at its end."""
    angle, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.09) * SIDE
    for _ in range(int(rng.integers(2, 6))):
        angle += rng.normal(0, 0.5)
        reach = rng.uniform(0.07, 0.14) * SIDE
        there = place + reach * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(mask, _pixel(place), _pixel(there), 1, max(2, round(width)))
        place, width = there, width * rng.uniform(0.75, 1.1)
    if rng.random() < 0.5:
        cv2.circle(mask, _pixel(place), max(2, round(width * rng.uniform(0.8, 1.8))), 1, -1)


def _pixel(place: npt.NDArray) -> list[int]:
    return [int(x) for x in place]


def _patched(rng: np.random.Generator, materials: Sequence[Rgb]) -> Rgb:
    """Cells around random places, each of one material."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    seeds = rng.uniform(0.2, 0.8, (len(materials) + int(rng.integers(3)), 2)) * SIDE
    nearest = np.hypot(x[..., None] - seeds[:, 0], y[..., None] - seeds[:, 1]).argmin(2)
    chosen = (nearest % len(materials))[None, ..., None]
    return np.asarray(np.take_along_axis(np.stack(materials), chosen, 0)[0], np.uint8)


class Bending:
    """Waves that run through a thing, as limbs and flags move; its middle stays."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._heights = rng.normal(0, BENDING, (WAVES, 2))
        self._across = rng.uniform(0.3, 1.6, (WAVES, 2)) * rng.choice([-1, 1], (WAVES, 2))
        self._periods = rng.uniform(*PERIOD, WAVES)
        self._phases = rng.uniform(0, 2 * np.pi, WAVES)

    def at(self, t: int, thing: Cutout) -> Cutout:
        """The thing as it is on frame `t`, in a picture of the same size."""
        h, w = thing.mask.shape
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        turned = 2 * np.pi * t / self._periods + self._phases
        places = np.stack([x, y])
        for height, across, turn in zip(self._heights, self._across, turned, strict=True):
            along = 2 * np.pi * (across[0] * (x / w - 0.5) + across[1] * (y / h - 0.5))
            wave = np.sin(along + turn) - np.sin(turn)
            places = places + height[:, None, None] * np.array([w, h])[:, None, None] * wave
        dx, dy = places.astype(np.float32)
        image = cv2.remap(thing.image, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        mask = cv2.remap(thing.mask, dx, dy, cv2.INTER_NEAREST)
        return Cutout(np.asarray(image, np.uint8), np.asarray(mask, np.uint8))
