"""One street with a camera on it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2vss_ros.training.procedural.paint import Canvas, Image
from sam2vss_ros.training.procedural.street.builder import Builder
from sam2vss_ros.training.procedural.street.ground import Ground
from sam2vss_ros.training.procedural.street.regions import Regions
from sam2vss_ros.training.procedural.street.sky import Sky
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.sun import random_sun
from sam2vss_ros.training.procedural.street.things import Thing
from sam2vss_ros.training.procedural.street.view import View, fill_mask, fixed_point

_BEHIND = 14.0  # metres behind the camera at which things are forgotten


class Street:
    """`draw` paints what the camera sees, `advance` lets time pass. `things` is what there is now,
    `classes` the class of each region in use, `z` where the camera is, in metres."""

    def __init__(self, rng: np.random.Generator, style: Style, size: tuple[int, int]) -> None:
        self.rng = rng
        self.style = style
        self.things: list[Thing] = []
        self.z = 0.0
        self.lane_x = (-1 if style.drive_left else 1) * style.road_half * rng.uniform(0.33, 0.5)
        self._sun = random_sun(rng)
        self._ground = Ground(rng, style)
        self._sky = Sky(rng, style, size)
        regions = Regions()
        self.classes = regions.classes
        self.classes.update(self._ground.classes | self._sky.classes)
        self._builder = Builder(rng, style, self._sun, self.lane_x, regions)
        self._built_to = {-1: -6.0, 1: rng.uniform(-6.0, 0.0)}
        self._furnished_to = {-1: 3.0, 1: 3.0}
        self._grow()
        for lane in (-1, 1):
            for _ in range(rng.poisson(style.traffic * style.sight / 20)):
                self.things.append(self._builder.traffic(lane, rng.uniform(7, style.sight)))

    def _grow(self) -> None:
        """Make the street up to the limit of sight."""
        end = self.z + self.style.sight
        for side in (-1, 1):
            while self._built_to[side] < end:
                things, self._built_to[side] = self._builder.lot(side, self._built_to[side])
                self.things += things
            while self._furnished_to[side] < end:
                things, self._furnished_to[side] = self._builder.furnish(
                    side, self._furnished_to[side]
                )
                self.things += things

    def crossing(self, z: float) -> None:
        """Let somebody cross the road at z, on foot or by bicycle."""
        self.things.append(self._builder.crossing(z))

    def free_speed(self, x: float, z: float, way: float, wish: float) -> float:
        """The speed, at most `wish`, that keeps clear of what is ahead in the lane at x.

        way: +1 along z, -1 against it.
        """
        gap = math.inf
        if abs(self.lane_x - x) < 1.6 and (self.z - z) * way > 0.01:
            gap = (self.z - z) * way
        for thing in self.things:
            ahead = (thing.z - z) * way
            if 0.01 < ahead < gap and abs(thing.x - x) < 1.6:
                gap = ahead
        return min(wish, max(0.0, 0.8 * (gap - 7.0)))

    def advance(self, dt: float, camera_z: float) -> None:
        """Let `dt` seconds pass; the camera is then at `camera_z`."""
        for thing in self.things:
            thing.advance(dt, self)
        self.z = camera_z
        horizon = self.z + self.style.sight
        oncoming = 1 if self.style.drive_left else -1
        for lane, per_second in ((oncoming, 0.3), (-oncoming, 0.08)):
            if self.rng.random() < self.style.traffic * per_second * dt:
                self.things.append(self._builder.traffic(lane, horizon))
        for thing in self.things:
            if thing.far_z() < self.z - _BEHIND or thing.z > horizon + 30:
                del self.classes[thing.region]
        self.things = [thing for thing in self.things if thing.region in self.classes]
        self._grow()

    def draw(self, view: View) -> Canvas:
        """The street as the view sees it."""
        canvas = Canvas(*view.size)
        self._ground.draw(canvas, view, self._shadows(view))
        self._sky.draw(canvas, view)

        def depth(thing: Thing) -> float:
            return view.project(thing.x, 0.0, thing.paint_z())[2]

        for thing in sorted(self.things, key=depth, reverse=True):
            thing.draw(canvas, view)
        return canvas

    def _shadows(self, view: View) -> Image:
        """(H, W) 255 in the light, less in the shadow of things."""
        light = np.full(view.size, 255, np.uint8)
        dark = int(255 * (1 - self._sun.darkness))
        for thing in self.things:
            if thing.far_z() < self.z - 5 or thing.z > self.z + thing.shadow_sight:
                continue
            outline = thing.shadow(self._sun)
            polygon = None if outline is None else view.polygon(outline)
            if polygon is not None:
                fill_mask(light, fixed_point(polygon), dark)
        return cv2.blur(light, (3, 3))
