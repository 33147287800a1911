"""A drive along a street without end."""

from __future__ import annotations

import math

import numpy as np

from sam2vss_ros.training.procedural.paint import Canvas
from sam2vss_ros.training.procedural.street.street import Street
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.view import View


class Drive:
    """A drive along a street without end: the camera car keeps its lane, follows what is ahead of
    it, and waits now and then. `next_frame` paints what it sees at 30 Hz."""

    _DT = 1 / 30

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        style = Style(
            natural=0.97,
            sight=120.0,
            road_half=5.6,
            pavement=3.2,
            setback=0.0,
            drive_left=rng.random() < 0.5,
            built=0.8,
            leafy=rng.uniform(0.2, 0.9),
            parked=0.35,
            walkers=0.6,
            furniture=0.6,
            traffic=0.5,
            cloud=0.25,
        )
        self.street = Street(rng, style, size)
        self._rng, self._size = rng, size
        self._speed, self._wish, self._wait = 6.0, rng.uniform(6, 9), 0.0
        self._phase = rng.uniform(0, 2 * np.pi, 4)
        self._time = 0.0

    def next_frame(self) -> Canvas:
        canvas = self.street.draw(self._view())
        self._drive()
        return canvas

    def _view(self) -> View:
        a, b, c, d = (
            math.sin(2 * math.pi * self._time / period + phase)
            for period, phase in zip((13.0, 7.0, 1.1, 9.0), self._phase.tolist(), strict=True)
        )
        shake = min(self._speed, 8.0) / 8
        return View(
            position=(self.street.lane_x + 0.3 * a, 1.5 + 0.01 * c * shake, self.street.z),
            yaw=0.05 * b + 0.02 * d,
            pitch=-0.02 + 0.002 * c * shake,
            roll=0.006 * a,
            focal=0.8 * max(self._size),
            size=self._size,
        )

    def _drive(self) -> None:
        rng, street, dt = self._rng, self.street, self._DT
        self._wait = max(0.0, self._wait - dt)
        if rng.random() < dt / 25:  # a red light, with people crossing before the car
            self._wait, self._wish = rng.uniform(3, 6), rng.uniform(6, 9)
            for _ in range(int(rng.integers(1, 5))):
                street.crossing(street.z + rng.uniform(16, 26))
        wish = 0.0 if self._wait else self._wish
        free = street.free_speed(street.lane_x, street.z, 1.0, wish)
        self._speed += float(np.clip(free - self._speed, -6 * dt, 2 * dt))
        self._time += dt
        street.advance(dt, street.z + self._speed * dt)
