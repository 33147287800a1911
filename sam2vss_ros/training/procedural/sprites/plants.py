"""Trees, bushes and hedges."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.training.procedural.sprites.pen import Design, Pen
from sam2vss_ros.training.procedural.sprites.tints import BARK, LEAF

# Parts of a plant: 0 crown, 1 lit crown, 2 trunk.
TINTS = [LEAF, LEAF, BARK]


def leafy_tree(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = Pen(160, 128)
    u = rng.uniform
    x, trunk = 0.5 + u(-0.05, 0.05), u(0.015, 0.04)
    pen.polygon(2, x - trunk, 0.4, x + trunk, 0.4, x + trunk * 1.4, 1.0, x - trunk * 1.4, 1.0)
    conical, low = rng.random() < 0.25, u(0.55, 0.9)
    for _ in range(int(rng.integers(50, 110))):
        y = u(0.1, low - 0.08)
        spread = 0.36 * (y / low if conical else np.sqrt(max(0.05, 1 - (2 * y / low - 1) ** 2)))
        r = u(0.02, 0.08)
        pen.ellipse(int(rng.random() < 0.4), 0.5 + u(-1, 1) * spread, y, r * u(0.8, 1.4), r)
    return (pen.design(close=0.03),)


def bare_tree(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = Pen(160, 128)

    def branch(x: float, y: float, angle: float, length: float, thickness: float) -> None:
        x1, y1 = x + length * np.sin(angle), y - length * np.cos(angle)
        pen.line(2, thickness, x, y, x1, y1)
        if length > 0.035:
            for _ in range(int(rng.integers(2, 4))):
                turn = 0.8 * angle + rng.normal(0, 0.5)
                branch(x1, y1, turn, length * rng.uniform(0.6, 0.8), thickness * 0.6)

    branch(0.5, 1.0, rng.normal(0, 0.05), rng.uniform(0.17, 0.22), rng.uniform(0.025, 0.04))
    return (pen.design(close=0.1),)


def bush(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = Pen(96, 144)
    for _ in range(int(rng.integers(15, 35))):
        x = rng.uniform(0.12, 0.88)
        top = 0.9 - 0.7 * np.sin(np.pi * x) * rng.uniform(0.5, 1)
        pen.ellipse(
            int(rng.random() < 0.4), x, rng.uniform(top, 0.9), 0.14, rng.uniform(0.08, 0.13)
        )
    pen.alpha[-4:] = 0
    return (pen.design(),)


def hedge(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = Pen(64, 192)
    knots = rng.uniform(0.05, 0.3, 14)
    x = np.linspace(0, 1, 60)
    edge = np.interp(x, np.linspace(0, 1, 14), knots) + rng.uniform(0, 0.05, 60)
    pen.polygon(0, 0, 1, *np.column_stack([x, edge]).ravel().tolist(), 1, 1)
    for _ in range(25):
        y = rng.uniform(0.35, 0.9)
        pen.ellipse(1, rng.uniform(0, 1), y, rng.uniform(0.04, 0.12), 0.07)
    return (Design(pen.parts, pen.alpha, pen.alpha),)
