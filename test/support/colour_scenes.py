"""Scenes in which words have a meaning: textured boxes in six colours before a grey wall."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SIDE = 64

COLOURS = {
    "red": (205, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 210),
    "yellow": (215, 200, 50),
    "purple": (150, 50, 170),
    "orange": (235, 130, 30),
}

BACKGROUND = "background"

SYNONYMS = {"red": "crimson", "blue": "azure"}
"""Words that mean the same in the captions."""


class Scene(NamedTuple):
    """image: (side, side, 3) uint8 RGB. masks: what is seen of each box, (side, side) bool.
    names: their colours."""

    image: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]
    names: list[str]


def draw_scene(rng: np.random.Generator, boxes: int, side: int = SIDE) -> Scene:
    """Boxes of different colours, the later ones before the earlier ones."""
    owner = np.full((side, side), -1)
    wall = rng.integers(60, 190)
    image = np.full((side, side, 3), wall) + rng.normal(0, 12, (side, side, 1))
    names = [str(n) for n in rng.choice(list(COLOURS), boxes, replace=False)]
    for i, name in enumerate(names):
        height, width = rng.integers(side // 5, side // 2, 2)
        y, x = rng.integers(0, side - height), rng.integers(0, side - width)
        texture = rng.normal(0, 14, (height, width, 1)) + rng.normal(0, 8, (height, width, 3))
        image[y : y + height, x : x + width] = np.array(COLOURS[name]) + texture
        owner[y : y + height, x : x + width] = i
    return Scene(np.clip(image, 0, 255).astype(np.uint8), [owner == i for i in range(boxes)], names)
