"""What is put on a street, and where: houses and gardens, furniture, people and traffic."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2vss_ros.training.procedural.classes import (
    BICYCLIST,
    BUILDING,
    CAR,
    FENCE,
    NO_CLASS,
    PEDESTRIAN,
    POLE,
    SIGN,
    TREE,
)
from sam2vss_ros.training.procedural.sprites.figure import Figure
from sam2vss_ros.training.procedural.street import vehicles
from sam2vss_ros.training.procedural.street.regions import Regions
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.sun import Sun
from sam2vss_ros.training.procedural.street.things import Standee, Thing, Vehicle, Wall


class Builder:
    """Makes the things of one street.

    lane_x: metres from the middle of the road to that of a lane. side: -1 is left, +1 right.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        style: Style,
        sun: Sun,
        lane_x: float,
        regions: Regions,
    ) -> None:
        self._rng = rng
        self._style = style
        self._sun = sun
        self._lane_x = lane_x
        self._regions = regions

    def lot(self, side: int, z: float) -> tuple[list[Thing], float]:
        """What stands on the plot of land that begins at z, and where the plot ends."""
        rng, style = self._rng, self._style
        things: list[Thing] = []
        line = side * (style.road_half + style.pavement + style.setback)
        length = rng.uniform(7, 18)
        if rng.random() < style.built:
            tall = rng.uniform(5.5, 15) if rng.random() < 0.9 else rng.uniform(15, 26)
            deep = rng.uniform(6, 12)
            things.append(self._wall("facade", BUILDING, line, z, length, tall, deep))
        else:
            for _ in range(int(rng.integers(1, 5))):
                x = line + side * rng.uniform(1.5, 12)
                kind = self._tree_kind()
                at = z + rng.uniform(0, length)
                things.append(self._standee(kind, TREE, x, at, (4, 12)))
        if style.setback > 1 or rng.random() > style.built:
            kind, class_id = ("fence", FENCE) if rng.random() < 0.6 else ("hedge", TREE)
            x = side * (style.road_half + style.pavement + 0.1)
            things.append(self._wall(kind, class_id, x, z, length, rng.uniform(0.8, 1.9)))
        gap = rng.uniform(0.5, 5) if rng.random() < 0.25 else 0.0
        return things, z + length + gap

    def furnish(self, side: int, z: float) -> tuple[list[Thing], float]:
        """What stands and walks on ten metres of pavement and kerb, and where they end."""
        rng, style = self._rng, self._style
        things: list[Thing] = []
        kerb = side * (style.road_half + 0.4)
        inner = side * (style.road_half + max(0.8, style.pavement - 0.5))
        if rng.random() < 0.5 * style.furniture:
            at = z + rng.uniform(0, 10)
            pole = self._standee("pole", POLE, kerb, at, (2.5, 9))
            things.append(pole)
            if rng.random() < 0.5:
                face = rng.uniform(0.5, 1.0)
                base = max(0.5, min(pole.height - face, rng.uniform(2.0, 3.2)))
                things.append(self._standee("sign", SIGN, kerb, at - 0.1, (face, face), base))
        if rng.random() < 0.25 * style.furniture:
            x, at = rng.choice([kerb, inner]), z + rng.uniform(0, 10)
            things.append(self._standee("obstacle", NO_CLASS, x, at, (0.7, 1.3)))
        if rng.random() < 0.25 * style.furniture:
            at, base = z + rng.uniform(0, 10), rng.uniform(1.5, 4)
            things.append(self._standee("sign", SIGN, inner, at, (0.6, 1.6), base))
        if rng.random() < 0.3 * style.furniture:
            kind, x, at = self._tree_kind(), kerb + side * 0.4, z + rng.uniform(0, 10)
            things.append(self._standee(kind, TREE, x, at, (4, 9)))
        if rng.random() < style.parked:
            x = side * (style.road_half - 1.1)
            at, heading = z + rng.uniform(2, 6), 0.0 if rng.random() < 0.6 else math.pi
            things.append(self._vehicle(x, at, heading, 0.0))
        for _ in range(rng.poisson(style.walkers)):
            things.append(self._walker(side, z + rng.uniform(0, 10)))
        return things, z + 10

    def _walker(self, side: int, z: float) -> Thing:
        """Somebody who walks or stands on the pavement, or crosses the road."""
        rng, style = self._rng, self._style
        x = side * (style.road_half + rng.uniform(0.3, max(0.6, style.pavement - 0.3)))
        pace = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
        share = rng.random()
        if share < 0.1:
            return self.crossing(z)
        velocity = (0.0, 0.0) if share < 0.3 else (0.0, pace)
        kind = "person" if rng.random() < 0.8 else "person aside"
        return self._standee(kind, PEDESTRIAN, x, z, (1.5, 1.9), velocity=velocity)

    def crossing(self, z: float) -> Thing:
        """Somebody who crosses the road at z, on foot or by bicycle."""
        way = float(self._rng.choice([-1, 1]))
        x = -way * self._style.road_half * self._rng.uniform(0.2, 1.1)
        velocity = (way * self._rng.uniform(1.0, 1.8), self._rng.normal(0, 0.15))
        if self._rng.random() < 0.8:
            return self._standee("person aside", PEDESTRIAN, x, z, (1.5, 1.9), velocity=velocity)
        return self._standee("cyclist aside", BICYCLIST, x, z, (1.6, 1.8), velocity=velocity)

    def traffic(self, side: int, z: float) -> Thing:
        """A vehicle or a cyclist in the lane of one side of the road."""
        rng, style = self._rng, self._style
        way = 1 if (side < 0) == style.drive_left else -1
        if rng.random() < 0.45:
            x = side * (style.road_half - rng.uniform(0.5, 1.4) - 1.2 * (style.parked > 0.2))
            velocity = (0.0, way * rng.uniform(3, 7))
            return self._standee(
                "cyclist", BICYCLIST, x, z, (1.65, 1.9), velocity=velocity, stride=4.0
            )
        heading = 0.0 if way > 0 else math.pi
        return self._vehicle(side * abs(self._lane_x), z, heading, rng.uniform(7, 14))

    def _tree_kind(self) -> str:
        if self._rng.random() < 0.2:
            return "bush"
        return "leafy tree" if self._rng.random() < self._style.leafy else "bare tree"

    def _standee(
        self,
        kind: str,
        class_id: int,
        x: float,
        z: float,
        heights: tuple[float, float],
        base: float = 0.0,
        velocity: tuple[float, float] = (0.0, 0.0),
        stride: float = 0.9,
    ) -> Standee:
        rng = self._rng
        return Standee(
            region=self._regions.add(class_id),
            class_id=class_id,
            x=x,
            z=z,
            height=rng.uniform(*heights) * (0.35 if kind == "bush" else 1.0),
            velocity=velocity,
            figure=Figure(rng, kind, self._style.natural),
            base=base,
            flip=velocity[0] < 0 or (velocity[0] == 0 and rng.random() < 0.5),
            stride=stride,
        )

    def _wall(
        self, kind: str, class_id: int, x: float, z: float, length: float, height: float,
        depth: float = 0.0,
    ) -> Wall:  # fmt: skip
        picture = Figure(self._rng, kind, self._style.natural).sprite()
        if x * self._sun.direction[0] > 0:  # the sun is behind it
            picture.rgb = cv2.convertScaleAbs(picture.rgb, alpha=1 - 0.5 * self._sun.darkness)
        end = picture.rgb[-40:, :4].mean((0, 1)) * self._rng.uniform(0.6, 1.0)
        return Wall(
            region=self._regions.add(class_id),
            class_id=class_id,
            x=x,
            z=z,
            height=height,
            picture=picture,
            length=length,
            depth=depth,
            end_colour=(int(end[0]), int(end[1]), int(end[2])),
        )

    def _vehicle(self, x: float, z: float, heading: float, wish: float) -> Vehicle:
        model = vehicles.models()[int(self._rng.integers(len(vehicles.models())))]
        palette = vehicles.body_palette(self._rng, self._style.natural)
        return Vehicle(
            region=self._regions.add(CAR),
            class_id=CAR,
            x=x,
            z=z,
            height=model.height,
            body=vehicles.Body(model, palette, heading, self._sun.direction),
            heading=heading,
            wish=wish,
        )
