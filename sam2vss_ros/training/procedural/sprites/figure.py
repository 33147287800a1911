"""A figure: one object with its design, its colours and the phases of its movement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import cv2
import numpy as np

from sam2vss_ros.training.procedural.paint import (
    RELIEF_UNIT,
    Image,
    Sprite,
    colour,
    paint,
    relief,
)
from sam2vss_ros.training.procedural.sprites import buildings, furniture, people, plants, shapes
from sam2vss_ros.training.procedural.sprites.pen import Design
from sam2vss_ros.training.procedural.sprites.tints import Tint


@dataclass(frozen=True)
class _Kind:
    """`draw` gives one design, a tuple of phases; `variants` is how many designs there are;
    `tints` are the natural colours of their parts."""

    draw: Callable[[np.random.Generator], tuple[Design, ...]]
    variants: int
    tints: list[Tint]


_KINDS = {
    "person": _Kind(partial(people.person, side=False), 32, people.PERSON_TINTS),
    "person aside": _Kind(partial(people.person, side=True), 32, people.PERSON_TINTS),
    "cyclist": _Kind(partial(people.cyclist, side=False), 24, people.CYCLIST_TINTS),
    "cyclist aside": _Kind(partial(people.cyclist, side=True), 24, people.CYCLIST_TINTS),
    "leafy tree": _Kind(plants.leafy_tree, 24, plants.TINTS),
    "bare tree": _Kind(plants.bare_tree, 24, plants.TINTS),
    "bush": _Kind(plants.bush, 12, plants.TINTS),
    "pole": _Kind(furniture.pole, 24, furniture.POLE_TINTS),
    "sign": _Kind(furniture.sign, 40, furniture.SIGN_TINTS),
    "facade": _Kind(buildings.facade, 40, buildings.FACADE_TINTS),
    "fence": _Kind(buildings.fence, 12, buildings.FENCE_TINTS),
    "hedge": _Kind(plants.hedge, 8, plants.TINTS),
    "obstacle": _Kind(furniture.obstacle, 24, furniture.OBSTACLE_TINTS),
    "shape": _Kind(shapes.shape, 96, shapes.TINTS),
}


@lru_cache(maxsize=len(_KINDS))
def designs(kind: str) -> list[tuple[Design, ...]]:
    """All designs of a kind; the same in every process."""
    rng = np.random.default_rng(sum(kind.encode()))
    return [_KINDS[kind].draw(rng) for _ in range(_KINDS[kind].variants)]


class Figure:
    """One object of a kind in random colours. Its phases are painted when they are asked for.

    `natural` is the chance that a part keeps to the colours of its kind; else it takes any.
    """

    def __init__(self, rng: np.random.Generator, kind: str, natural: float) -> None:
        variants = designs(kind)
        self._variant = variants[int(rng.integers(len(variants)))]
        self._painted: list[Sprite | None] = [None] * len(self._variant)
        height, width = self._variant[0].alpha.shape
        self.shape = (height, width)
        self._kind, self._natural, self._seed = kind, natural, int(rng.integers(2**32))

    @cached_property
    def _paints(self) -> tuple[list[tuple[int, int, int]], Image]:
        """Palette and relief; what is never seen never needs them."""
        rng, kind = np.random.default_rng(self._seed), self._kind
        palette = [
            colour(rng, t.hue, t.saturation, t.value)
            if rng.random() < self._natural
            else colour(rng)
            for t in _KINDS[kind].tints
        ]
        h, w = self.shape
        leaves = "tree" in kind or kind in ("bush", "hedge")
        contrast = rng.uniform(0.3, 0.8) if leaves else rng.uniform(0.0, 0.6)
        kinds = (1, 6, 7) if leaves else ()
        texture = relief(rng, h, w, contrast, zoom=rng.uniform(0.5, 2.0), kinds=kinds)
        return palette, cv2.multiply(texture, _slope(rng, h, w), scale=1 / RELIEF_UNIT)

    def sprite(self, cycle: float = 0.0) -> Sprite:
        """The picture at a place in the cycle of phases; one cycle is 1."""
        i = int(cycle * len(self._variant)) % len(self._variant)
        sprite = self._painted[i]
        if sprite is None:
            d = self._variant[i]
            sprite = Sprite(paint(d.parts, *self._paints), d.alpha, d.mask)
            self._painted[i] = sprite
        return sprite


@lru_cache(maxsize=64)
def _ramp(height: int, width: int) -> tuple[Image, Image]:
    """Reliefs of 0..255 that grow along x and along y."""
    x = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    y = np.tile(np.linspace(0, 255, height).astype(np.uint8)[:, None], (1, width))
    return x, y


def _slope(rng: np.random.Generator, height: int, width: int) -> Image:
    """Light from one side: a linear relief about RELIEF_UNIT."""
    x, y = _ramp(height, width)
    a, b = rng.uniform(-0.3, 0.3, 2)
    return cv2.addWeighted(x, a, y, b, 128 - 127.5 * (a + b))
