"""What stands and moves on a street."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import cv2
import numpy as np

from sam2vss_ros.training.procedural.classes import BICYCLIST, PEDESTRIAN
from sam2vss_ros.training.procedural.paint import Canvas, Sprite
from sam2vss_ros.training.procedural.sprites.figure import Figure
from sam2vss_ros.training.procedural.street import vehicles
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.sun import Sun
from sam2vss_ros.training.procedural.street.view import View, fill, fixed_point, plane, upright


class Surroundings(Protocol):
    """What a thing knows of the street it is on."""

    @property
    def rng(self) -> np.random.Generator: ...

    @property
    def style(self) -> Style: ...

    def free_speed(self, x: float, z: float, way: float, wish: float) -> float:
        """The speed, at most `wish`, that keeps clear of what is ahead in the lane at x."""


@dataclass(kw_only=True)
class Thing:
    """Something on the street. x, z in metres; `velocity` (x, z) in metres per second."""

    region: int
    class_id: int
    x: float
    z: float
    height: float
    velocity: tuple[float, float] = (0.0, 0.0)
    shadow_sight: ClassVar[float] = 40.0  # metres up to which its shadow shows

    def far_z(self) -> float:
        """Where it ends."""
        return self.z

    def paint_z(self) -> float:
        """What counts as its distance in the order of painting."""
        return self.z

    def draw(self, canvas: Canvas, view: View) -> None:
        raise NotImplementedError

    def shadow(self, sun: Sun) -> np.ndarray | None:
        """(N, 3) outline of its shadow on the ground, if it casts one."""
        return None

    def advance(self, dt: float, street: Surroundings) -> None:
        self.x += self.velocity[0] * dt
        self.z += self.velocity[1] * dt


@dataclass(kw_only=True)
class Standee(Thing):
    """A flat figure that faces the camera; `base`: metres above ground."""

    shadow_sight: ClassVar[float] = 20.0
    figure: Figure
    base: float = 0.0
    flip: bool = False
    stride: float = 0.9  # metres per cycle of the phases
    walked: float = 0.0
    pause: float = 0.0  # seconds it still stands

    def draw(self, canvas: Canvas, view: View) -> None:
        if view.sees(self.x, self.base, self.z, self.height):
            sprite = self.figure.sprite(self.walked / self.stride)
            foot = (self.x, self.base, self.z)
            upright(canvas, view, sprite, foot, self.height, self.region, self.flip)

    def shadow(self, sun: Sun) -> np.ndarray | None:
        if self.base:
            return None
        h, w = self.figure.shape
        half = 0.3 * self.height * w / h
        tip = sun.shadow(self.height)
        foot, along = np.array([self.x, 0, self.z]), np.array([half, 0, 0])
        back = np.array([0, 0, 0.3 * half])
        return np.array(
            [foot - along - back, foot + along - back, foot + along + tip, foot - along + tip]
        )

    def advance(self, dt: float, street: Surroundings) -> None:
        if self.pause > 0:
            self.pause -= dt
            return
        super().advance(dt, street)
        self.walked += math.hypot(*self.velocity) * dt
        if self.class_id not in (PEDESTRIAN, BICYCLIST) or not any(self.velocity):
            return
        across, along = self.velocity
        if across * self.x > 0 and abs(self.x) > street.style.road_half + 0.7:  # over the road
            self.velocity = (0.0, math.copysign(across, along))
        elif self.class_id == PEDESTRIAN and not across and street.rng.random() < 0.04 * dt:
            self.pause = street.rng.uniform(1, 4)


@dataclass(kw_only=True)
class Wall(Thing):
    """A flat picture along the street: a facade, fence or hedge from z to z + length."""

    picture: Sprite
    length: float
    depth: float = 0.0  # metres a house reaches away from the street; 0 for a fence
    end_colour: tuple[int, int, int] = (0, 0, 0)

    def far_z(self) -> float:
        return self.z + self.length

    def paint_z(self) -> float:  # whatever stands before a wall hides it
        return self.far_z()

    def draw(self, canvas: Canvas, view: View) -> None:
        if self.depth:
            away = math.copysign(self.depth, self.x)
            tall = self.height * 0.88
            end = np.array([[0, 0, 0], [away, 0, 0], [away, tall, 0], [0, tall, 0]])
            outline = view.polygon(end + (self.x, 0, self.z))
            if outline is not None:
                fill(canvas, fixed_point(outline), self.end_colour, self.region)
        corner = np.array([self.x, 0.0, self.z])
        up = np.array([0, self.height, 0])
        plane(canvas, view, self.picture, corner, np.array([0, 0, self.length]), up, self.region)

    def shadow(self, sun: Sun) -> np.ndarray | None:
        reach = sun.shadow(0.85 * self.height)
        near, far = np.array([self.x, 0, self.z]), np.array([self.x, 0, self.z + self.length])
        return np.array([near, far, far + reach, near + reach])


@dataclass(kw_only=True)
class Vehicle(Thing):
    """A solid vehicle; heading 0 drives along z. `wish` is the speed it would like, in m/s."""

    body: vehicles.Body
    heading: float
    wish: float

    def paint_z(self) -> float:  # it hides whoever walks along its far side
        return self.z - self.body.model.length / 2

    def draw(self, canvas: Canvas, view: View) -> None:
        model, (x, _, z) = self.body.model, view.position
        inside = (
            abs(x - self.x) < model.width / 2 + 0.3 and abs(z - self.z) < model.length / 2 + 0.5
        )
        if not inside:
            self.body.draw(canvas, view, np.array([self.x, 0.0, self.z]), self.region)

    def shadow(self, sun: Sun) -> np.ndarray | None:
        w, n = self.body.model.width / 2 + 0.1, self.body.model.length / 2 + 0.1
        c, s = math.cos(self.heading), math.sin(self.heading)
        shift = sun.shadow(0.7 * self.height)
        foot = np.array([[x * c + z * s, 0, z * c - x * s] for x, z in
                         ((-w, -n), (w, -n), (w, n), (-w, n))]) + (self.x, 0, self.z)  # fmt: skip
        hull = cv2.convexHull(np.concatenate([foot, foot + shift])[:, [0, 2]].astype(np.float32))
        return np.insert(hull[:, 0].astype(np.float64), 1, 0.0, axis=1)

    def advance(self, dt: float, street: Surroundings) -> None:
        if self.wish:
            if street.rng.random() < 0.05 * dt:
                self.wish = street.rng.uniform(7, 14)
            way = 1.0 if math.cos(self.heading) > 0 else -1.0
            self.velocity = (0.0, way * street.free_speed(self.x, self.z, way, self.wish))
        super().advance(dt, street)
