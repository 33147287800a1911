"""Plain closed shapes that are nothing in particular."""

from __future__ import annotations

import cv2
import numpy as np

from sam2vss_ros.training.procedural.sprites.pen import Design, Pen
from sam2vss_ros.training.procedural.sprites.tints import Tint

TINTS = 3 * [Tint(value=(0.05, 1.0))]


def shape(rng: np.random.Generator) -> tuple[Design, ...]:
    """A plain closed shape: blob, polygon, star, ball, ring, box or capsule."""
    pen, kind, u = Pen(128, 128), rng.integers(7), rng.uniform
    if kind in (0, 1, 2):
        n = int(rng.integers(3, 11))
        angle = np.sort(rng.uniform(0, 2 * np.pi, n)) if kind else np.arange(n) * 2 * np.pi / n
        radius = rng.uniform(0.15 if kind == 1 else 0.3, 0.48, n)
        if kind == 2:  # rounded: resample the radius smoothly round the circle
            grid = np.linspace(0, 2 * np.pi, 72, endpoint=False)
            radius = np.interp(grid, angle, radius, period=2 * np.pi)
            kernel = np.hanning(13) / np.hanning(13).sum()
            radius = np.convolve(np.concatenate([radius[-6:], radius, radius[:6]]), kernel, "valid")
            angle = grid
        points = np.stack([0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle)], 1)
        pen.polygon(0, *points.ravel().tolist())
    elif kind in (3, 4):
        pen.ellipse(0, 0.5, 0.5, 0.46, u(0.25, 0.46))
    elif kind == 5:
        a, b = u(0.25, 0.47), u(0.15, 0.47)
        pen.polygon(0, 0.5 - a, 0.5 - b, 0.5 + a, 0.5 - b, 0.5 + a, 0.5 + b, 0.5 - a, 0.5 + b)
    else:
        pen.line(0, u(0.1, 0.4), 0.25, 0.5, u(0.4, 0.6), u(0.3, 0.7), 0.75, 0.5)
    if rng.random() < 0.5:  # a second colour inside: stripes or a spot
        inner = np.zeros_like(pen.parts)
        if rng.random() < 0.5:
            y = int(128 * u(0.2, 0.6))
            inner[y : y + int(128 * u(0.08, 0.3))] = 1
        else:
            cv2.circle(
                inner,
                (int(128 * u(0.3, 0.7)), int(128 * u(0.3, 0.7))),
                int(128 * u(0.05, 0.2)),
                1,
                -1,
            )
        pen.parts = np.where(pen.alpha > 0, inner, 0).astype(np.uint8)
    if kind == 4:
        hole = int(128 * u(0.1, 0.2))
        cv2.circle(pen.alpha, (64, 64), hole, 0, -1)
    return (pen.design(),)
