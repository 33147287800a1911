"""A short clip of a random street."""

from __future__ import annotations

import math

import numpy as np

from sam2vss_ros.training.procedural.paint import Canvas
from sam2vss_ros.training.procedural.street.street import Street
from sam2vss_ros.training.procedural.street.style import random_style
from sam2vss_ros.training.procedural.street.view import View


class StreetScene:
    """A few frames of a random street. class_ids gives the class of each region; `draw(t)`
    paints frame t, t counting up from 0."""

    def __init__(self, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> None:
        u = rng.uniform
        style = random_style(rng, natural=float(rng.choice([0.5, 0.85, 0.95])), sight=u(32, 52))
        self._street = Street(rng, style, size)
        self.class_ids = dict(self._street.classes)
        hard = rng.random() < 0.3
        self._dt = u(1 / 30, 1 / 15) * (u(2, 5) if hard else 1.0)
        self._speed = 0.0 if rng.random() < 0.3 else u(0, 12)
        self._size = size
        self._x = u(-0.8, 0.8) * style.road_half
        self._height = u(1.0, 2.2)
        self._yaw, self._pitch, self._roll = (
            rng.normal(0, 0.12),
            rng.normal(-0.04, 0.05),
            rng.normal(0, 0.015),
        )
        if rng.random() < 0.15:  # from the pavement, across the street
            side = rng.choice([-1, 1])
            self._x, self._yaw = side * style.road_half, -side * u(0.1, 1.0)
        self._turn = rng.normal(0, 0.15)
        self._sweep = u(0.2, 0.6) * rng.choice([-1, 1]) if hard and rng.random() < 0.4 else 0.0
        self._frames = frames
        self._focal = max(size) * u(0.6, 1.3)
        self._now = 0

    def draw(self, t: int) -> Canvas:
        while self._now < t:
            self._street.advance(self._dt, self._street.z + self._speed * self._dt)
            self.class_ids.update(self._street.classes)
            self._now += 1
        # A sweep looks away and back, so that things leave the picture and return.
        swing = self._sweep * math.sin(math.pi * t / max(1, self._frames - 1))
        view = View(
            (self._x, self._height, self._street.z),
            self._yaw + self._turn * self._dt * t + swing,
            self._pitch,
            self._roll,
            self._focal,
            self._size,
        )
        return self._street.draw(view)
