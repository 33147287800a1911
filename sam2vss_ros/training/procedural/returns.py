"""Scenes in which things leave and come back, among others that look much like them.

A few people, cyclists or other figures of two kinds walk before a street. Each goes out of the
picture, or behind a pillar, stays there for 10 to 60 frames and comes back elsewhere, somewhat
larger or smaller, facing the way it walks. The camera sways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.procedural.paint import (
    Canvas,
    Image,
    Photometry,
    Sprite,
    colour,
    paint,
    relief,
)
from sam2vss_ros.training.procedural.sprites.figure import Figure
from sam2vss_ros.training.procedural.street.scene import StreetScene

_KINDS = ("person", "person aside", "cyclist", "cyclist aside", "bush", "sign", "shape")
_MARGIN = 0.12  # how far the street reaches beyond the picture, and how far the camera may sway
_AWAY = (10, 60)  # frames
_STRIDE = 12.0  # frames in which the phases of a walk repeat


def returns_video(
    seed: int, frames: int, size: tuple[int, int] = (256, 256)
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    """Yield (frame, instances) of one scene: (H, W, 3) uint8 RGB and (H, W) uint16 ids.

    The pillar is 1, the figures have the ids from 2 on and keep them while they are away; the
    street is 0. The same seed gives the same pixels.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    background = _background(rng, size)
    pillar, pillar_x = _pillar(rng, size), rng.uniform(0.3, 0.7)
    kinds = rng.choice(len(_KINDS), 2, replace=False)
    walkers = [
        _Walker(rng, _KINDS[kinds[i % 2]], frames, pillar_x) for i in range(rng.integers(4, 7))
    ]
    walkers.sort(key=lambda w: w.foot)  # what stands lower is nearer
    photometry = Photometry(rng, strength=0.25)
    sway = rng.uniform(0, 0.8 * _MARGIN) * width * (rng.random() < 0.7)
    period, phase = rng.uniform(60, 160), rng.uniform(0, 2 * np.pi)
    for t in range(frames):
        shift = sway * math.sin(2 * np.pi * t / period + phase)
        canvas = Canvas(height, width)
        place = np.array([[1, 0, shift - _MARGIN * width], [0, 1, -_MARGIN * height]])
        canvas.rgb[:] = cv2.warpAffine(background, place, (width, height))
        for i, walker in enumerate(walkers):
            canvas.sprite(walker.sprite(t), walker.matrix(t, size, shift), 2 + i)
        pillar_place = np.array([[1, 0, pillar_x * width + shift - pillar.mask.shape[1] / 2],
                                 [0, 1, 0]])  # fmt: skip
        canvas.sprite(pillar, pillar_place, 1)
        yield photometry.apply(canvas.rgb), canvas.ids


class _Walker:
    """One figure and where it is when; places as shares of the picture's width and height."""

    def __init__(self, rng: np.random.Generator, kind: str, frames: int, pillar_x: float) -> None:
        self._figure = Figure(rng, kind, natural=0.7)
        self._animated = kind.startswith(("person", "cyclist"))
        self.foot = rng.uniform(0.6, 0.95)
        tall = rng.uniform(0.25, 0.4) if self._animated else rng.uniform(0.15, 0.25)
        knots = [(0, rng.uniform(0.08, 0.92), tall)]  # frame, x, height
        while knots[-1][0] < frames:
            t, x, h = knots[-1]
            t += int(rng.integers(20, 50))  # stays in sight, walking slowly
            x = float(np.clip(x + rng.uniform(-0.3, 0.3), 0.08, 0.92))
            knots.append((t, x, h))
            hidden = pillar_x if rng.random() < 0.4 else float(rng.choice([-0.35, 1.35]))
            walk = math.ceil(abs(hidden - x) / 0.05)
            away, h = int(rng.integers(*_AWAY)), tall * rng.uniform(0.85, 1.2)
            knots += [(t + walk, hidden, tall), (t + walk + away, hidden, h)]
            back = rng.uniform(0.08, 0.92)
            knots.append((t + walk + away + math.ceil(abs(hidden - back) / 0.05), back, h))
        self._knots = np.array(knots, float)

    def sprite(self, t: int) -> Sprite:
        return self._figure.sprite(t / _STRIDE if self._animated else 0.0)

    def matrix(self, t: int, size: tuple[int, int], shift: float) -> np.ndarray:
        """(2, 3) from the sprite to the picture."""
        height, width = size
        h, w = self._figure.shape
        x, tall = (np.interp(t, self._knots[:, 0], self._knots[:, i]) for i in (1, 2))
        scale = tall * height / h
        leg = int(np.searchsorted(self._knots[:, 0], t, side="right"))
        ahead = self._knots[min(leg, len(self._knots) - 1), 1] >= x
        side = scale if ahead or not self._animated else -scale
        left = x * width + shift - side * w / 2
        return np.array([[side, 0, left], [0, scale, self.foot * height - scale * h]])


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """A street that stands still, larger than the picture by the margin on all sides."""
    height, width = (round(n * (1 + 2 * _MARGIN)) for n in size)
    return StreetScene(rng, 1, (height, width)).draw(0).rgb


def _pillar(rng: np.random.Generator, size: tuple[int, int]) -> Sprite:
    """From the upper to the lower edge of the picture, wide enough to hide a figure."""
    height, width = size[0], round(0.3 * size[1])
    parts, mask = np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8)
    grain = relief(rng, height, width, rng.uniform(0.1, 0.6))
    return Sprite(paint(parts, [colour(rng, saturation=(0.0, 0.5))], grain), mask, mask)
