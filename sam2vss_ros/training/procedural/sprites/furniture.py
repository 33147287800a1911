"""Street furniture: poles, signs, and bins, cones and boxes."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.training.procedural.sprites.pen import Design, Pen
from sam2vss_ros.training.procedural.sprites.tints import ANY, BRIGHT, CLOTH, METAL, Tint

# Parts of a pole: 0 column, 1 lamp or head.
POLE_TINTS = [METAL, METAL]


def pole(rng: np.random.Generator) -> tuple[Design, ...]:
    """A lamp post, a plain post or a bollard; the canvas is four times as high as wide."""
    pen = Pen(256, 64)
    kind, t = rng.integers(3), rng.uniform(0.012, 0.04)
    if kind == 0:
        reach = rng.choice([-1, 1]) * rng.uniform(0.2, 0.42)
        pen.line(0, t * 0.7, 0.5, 0.06, 0.5 + reach, 0.03)
        pen.ellipse(1, 0.5 + reach, 0.03, 0.025, 0.012)
    elif kind == 1:
        pen.ellipse(1, 0.5, 0.04, 0.03, 0.03)
    pen.line(0, t, 0.5, 0.03, 0.5, 1.0)
    pen.line(0, t * 1.7, 0.5, rng.uniform(0.8, 0.95), 0.5, 1.0)
    return (pen.design(),)


# Parts of a sign: 0 face, 1 rim, 2 symbol, 3 dark.
SIGN_TINTS = [BRIGHT, BRIGHT, ANY, Tint(value=(0.0, 0.3))]


def sign(rng: np.random.Generator) -> tuple[Design, ...]:
    """A round, triangular or rectangular sign, a board with writing, or a traffic light."""
    u, kind = rng.uniform, rng.integers(5)
    pen = Pen(96, 48 if kind == 4 else 96)
    if kind == 0:
        pen.ellipse(1, 0.5, 0.5, 0.47, 0.47)
        pen.ellipse(0, 0.5, 0.5, 0.36, 0.36)
        pen.line(2, 0.12, u(0.25, 0.4), u(0.3, 0.7), u(0.6, 0.75), u(0.3, 0.7))
    elif kind == 1:
        up = rng.random() < 0.7
        a, b = (0.05, 0.92) if up else (0.95, 0.08)
        pen.polygon(1, 0.5, a, 0.97, b, 0.03, b)
        c, d = (0.27, 0.8) if up else (0.73, 0.2)
        pen.polygon(0, 0.5, c, 0.76, d, 0.24, d)
        pen.line(2, 0.08, 0.5, 0.45, 0.5, 0.65)
    elif kind in (2, 3):
        h = u(0.2, 0.47)
        pen.polygon(1, 0.03, 0.5 - h, 0.97, 0.5 - h, 0.97, 0.5 + h, 0.03, 0.5 + h)
        pen.polygon(0, 0.07, 0.54 - h, 0.93, 0.54 - h, 0.93, 0.46 + h, 0.07, 0.46 + h)
        for y in np.arange(0.6 - h, 0.42 + h, 0.13):
            for x in np.arange(0.15, u(0.4, 0.85), 0.1):
                pen.line(2, 0.05, x, y, x + u(0.02, 0.06), y)
    else:
        pen.polygon(3, 0.08, 0.02, 0.92, 0.02, 0.92, 0.98, 0.08, 0.98)
        lit = rng.integers(3)
        for i in range(3):
            pen.ellipse(0 if i == lit else 1, 0.5, 0.2 + 0.3 * i, 0.11, 0.11)
    return (pen.design(),)


OBSTACLE_TINTS = [ANY, BRIGHT, CLOTH]


def obstacle(rng: np.random.Generator) -> tuple[Design, ...]:
    """A litter bin, a traffic cone or a box: street furniture without a class."""
    pen, kind, u = Pen(96, 72), rng.integers(3), rng.uniform
    if kind == 0:
        a, b = u(0.25, 0.45), u(0.2, 0.4)
        pen.polygon(0, 0.5 - a, 0.15, 0.5 + a, 0.15, 0.5 + b, 1.0, 0.5 - b, 1.0)
        pen.ellipse(2, 0.5, 0.15, a * 0.75, u(0.04, 0.12))
    elif kind == 1:
        pen.polygon(0, 0.45, 0.03, 0.55, 0.03, 0.85, 0.92, 0.15, 0.92)
        pen.polygon(1, 0.37, 0.3, 0.63, 0.3, 0.71, 0.55, 0.29, 0.55)
        pen.polygon(2, 0.05, 0.92, 0.95, 0.92, 0.95, 1.0, 0.05, 1.0)
    else:
        top = u(0.2, 0.6)
        pen.polygon(0, 0.05, top, 0.95, top, 0.95, 1.0, 0.05, 1.0)
        pen.polygon(1, 0.05, top, 0.95, top, 0.85, top - 0.12, 0.2, top - 0.12)
    return (pen.design(),)
