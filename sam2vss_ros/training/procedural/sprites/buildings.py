"""What stands along the street: fronts of houses, and fences."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.training.procedural.sprites.pen import Design, Pen
from sam2vss_ros.training.procedural.sprites.tints import BARK, BRIGHT, CLOTH, METAL, Tint

# Parts of a facade: 0 wall, 1 glass, 2 frames, 3 doors, 4 shop front, 5 shop sign, 6 roof.
FACADE_TINTS = [
    Tint((0.02, 0.15), (0.0, 0.45), (0.15, 0.75)),
    Tint((0.5, 0.65), (0.0, 0.3), (0.06, 0.4)),
    Tint((0.05, 0.15), (0.0, 0.2), (0.2, 0.8)),
    CLOTH,
    CLOTH,
    BRIGHT,
    Tint((0.0, 0.1), (0.05, 0.5), (0.15, 0.45)),
]


def facade(rng: np.random.Generator) -> tuple[Design, ...]:
    """A house front: storeys of windows, a ground floor with doors or shops, perhaps a roof."""
    u, pen = rng.uniform, Pen(160, 176)
    top = u(0.04, 0.16)
    if rng.random() < 0.55:  # a roof, with chimneys
        eaves = top + u(0.08, 0.18)
        inset = u(0.0, 0.12) if rng.random() < 0.4 else 0.0
        pen.polygon(6, inset, top, 1 - inset, top, 1, eaves, 0, eaves)
        for x in rng.uniform(0.08, 0.85, int(rng.integers(0, 4))):
            w = u(0.04, 0.08)
            pen.polygon(0, x, top - 0.06, x + w, top - 0.06, x + w, top + 0.05, x, top + 0.05)
    else:
        eaves = top
    pen.polygon(0, 0, eaves, 1, eaves, 1, 1, 0, 1)
    storeys, columns = int(rng.integers(2, 6)), int(rng.integers(2, 7))
    ground = 1 - (1 - eaves) / (storeys + u(-0.2, 0.5))
    ribbon = rng.random() < 0.15  # offices with bands of windows
    high = (ground - eaves) / max(storeys - 1, 1)
    width, tall, sill = (0.9 if ribbon else u(0.35, 0.7)), u(0.45, 0.75), u(0.01, 0.025)
    for row in range(max(storeys - 1, 1)):
        y0 = eaves + high * (row + (1 - tall) / 2)
        y1 = y0 + high * tall
        for column in range(columns):
            x0 = (column + (1 - width) / 2) / columns
            x1 = x0 + width / columns
            pen.polygon(2, x0, y0 - sill, x1, y0 - sill, x1, y1 + sill, x0, y1 + sill)
            pen.polygon(1, x0 + 0.008, y0, x1 - 0.008, y0, x1 - 0.008, y1, x0 + 0.008, y1)
            if not ribbon:
                pen.line(2, 0.008, (x0 + x1) / 2, y0, (x0 + x1) / 2, y1)
                pen.line(2, 0.008, x0, (y0 + y1) / 2, x1, (y0 + y1) / 2)
    shops = rng.random() < 0.5
    bays = int(rng.integers(1, 4)) if shops else columns
    for bay in range(bays):
        x0, x1 = bay / bays + 0.015, (bay + 1) / bays - 0.015
        if shops:
            y = ground + 0.04 + 0.15 * (1 - ground)
            pen.polygon(4, x0, ground + 0.02, x1, ground + 0.02, x1, 1, x0, 1)
            pen.polygon(5, x0, ground + 0.03, x1, ground + 0.03, x1, y, x0, y)
            pen.polygon(
                1, x0 + 0.02, y + 0.03, x1 - 0.06, y + 0.03, x1 - 0.06, 0.94, x0 + 0.02, 0.94
            )
        elif rng.random() < 0.35:
            m, d = (x0 + x1) / 2, 0.1 / bays + 0.025
            y = ground + 0.2 * (1 - ground)
            pen.polygon(
                2, m - d * 1.3, y - 0.015, m + d * 1.3, y - 0.015, m + d * 1.3, 1, m - d * 1.3, 1
            )
            pen.polygon(3, m - d, y, m + d, y, m + d, 1, m - d, 1)
        else:
            m, d = (x0 + x1) / 2, width / columns / 2
            y0, y1 = ground + 0.2 * (1 - ground), ground + 0.7 * (1 - ground)
            pen.polygon(2, m - d, y0 - 0.012, m + d, y0 - 0.012, m + d, y1 + 0.02, m - d, y1 + 0.02)
            pen.polygon(1, m - d + 0.01, y0, m + d - 0.01, y0, m + d - 0.01, y1, m - d + 0.01, y1)
    return (Design(pen.parts, pen.alpha, pen.alpha),)


# Parts of a fence: 0 posts and rails, 1 boards.
FENCE_TINTS = [METAL, BARK]


def fence(rng: np.random.Generator) -> tuple[Design, ...]:
    """Eight metres of railings or boards; one sees through railings, but they are one region."""
    pen, n = Pen(48, 256), int(rng.integers(4, 9))
    railing = rng.random() < 0.6
    top = rng.uniform(0.02, 0.2)
    step = rng.uniform(0.012, 0.03)
    if railing:
        for y in (top + 0.03, 0.9):
            pen.line(0, 0.06, 0, y, 1, y)
        for x in np.arange(0, 1, step):
            pen.line(0, 0.03, x, top, x, 0.98)
    else:
        pen.polygon(1, 0, top, 1, top, 1, 1, 0, 1)
        for x in np.arange(0, 1, step * 2):
            pen.line(0, 0.02, x, top, x, 1)
    for x in np.linspace(0.01, 0.99, n):
        pen.line(0, 0.09, x, top, x, 1)
    return (pen.design(close=0.5 if railing else 0.0),)
