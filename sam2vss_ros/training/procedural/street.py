"""A street in metres: what stands and moves on it, and its picture from a camera that drives along.

The street runs along z. It is made lot by lot ahead of the camera and forgotten behind it, so a
drive of any length needs constant memory. Everything of it is painted far to near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from sam2vss_ros.training.procedural import vehicles
from sam2vss_ros.training.procedural.paint import (
    RELIEF_UNIT,
    Canvas,
    Image,
    Sprite,
    colour,
    paint,
    relief,
)  # fmt: skip
from sam2vss_ros.training.procedural.sprites.figure import Figure
from sam2vss_ros.training.procedural.view import (
    View,
    fill,
    fill_mask,
    fixed_point,
    plane,
    upright,
)  # fmt: skip

NO_CLASS = -1
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

# The regions every street has; things get the ids from FIRST_THING on.
SKY_REGION, BACKDROP_REGION, ROAD_REGION, LEFT_PAVEMENT, RIGHT_PAVEMENT, VERGE = range(1, 7)
FIRST_THING = 7
_MAX_REGION = 65535

_TILE = 40.0  # metres after which the ground's texture repeats
_TEXELS = 8  # of the ground's texture per metre
_GROUND_HALF = 24.0  # metres of textured ground on each side
_BEHIND = 14.0  # metres behind the camera at which things are forgotten


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

    def shadow(self, light: np.ndarray) -> np.ndarray | None:
        """(N, 3) outline of its shadow on the ground, if it casts one."""
        return None

    def advance(self, dt: float, street: Street) -> None:
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

    def shadow(self, light: np.ndarray) -> np.ndarray | None:
        if self.base:
            return None
        h, w = self.figure.shape
        half = 0.3 * self.height * w / h
        tip = self.height * np.array([-light[0], 0, -light[2]]) / max(light[1], 0.3)
        foot, along = np.array([self.x, 0, self.z]), np.array([half, 0, 0])
        back = np.array([0, 0, 0.3 * half])
        return np.array(
            [foot - along - back, foot + along - back, foot + along + tip, foot - along + tip]
        )

    def advance(self, dt: float, street: Street) -> None:
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

    def shadow(self, light: np.ndarray) -> np.ndarray | None:
        reach = 0.85 * self.height * np.array([-light[0], 0, -light[2]]) / max(light[1], 0.3)
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

    def shadow(self, light: np.ndarray) -> np.ndarray | None:
        w, n = self.body.model.width / 2 + 0.1, self.body.model.length / 2 + 0.1
        c, s = math.cos(self.heading), math.sin(self.heading)
        shift = 0.7 * self.height * np.array([-light[0], 0, -light[2]]) / max(light[1], 0.3)
        foot = np.array([[x * c + z * s, 0, z * c - x * s] for x, z in
                         ((-w, -n), (w, -n), (w, n), (-w, n))]) + (self.x, 0, self.z)  # fmt: skip
        hull = cv2.convexHull(np.concatenate([foot, foot + shift])[:, [0, 2]].astype(np.float32))
        return np.insert(hull[:, 0].astype(np.float64), 1, 0.0, axis=1)

    def advance(self, dt: float, street: Street) -> None:
        if self.wish:
            if street.rng.random() < 0.05 * dt:
                self.wish = street.rng.uniform(7, 14)
            way = 1.0 if math.cos(self.heading) > 0 else -1.0
            self.velocity = (0.0, way * street.free_speed(self.x, self.z, way, self.wish))
        super().advance(dt, street)


@dataclass(frozen=True)
class Style:
    """How a street looks and what is on it. Lengths in metres, shares 0..1.

    natural: chance that a colour is one usual for its thing. sight: how far the street is made.
    """

    natural: float
    sight: float
    road_half: float
    pavement: float
    setback: float
    drive_left: bool
    built: float  # share of lots with a house
    leafy: float  # share of trees with leaves
    parked: float  # parked cars per 10 m and side
    walkers: float  # pedestrians per 10 m and side
    furniture: float  # poles, signs, bins per 10 m and side
    traffic: float  # moving vehicles and cyclists per 10 m and lane
    cloud: float


def random_style(rng: np.random.Generator, natural: float, sight: float) -> Style:
    u = rng.uniform
    return Style(
        natural=natural,
        sight=sight,
        road_half=u(3.2, 7.0),
        pavement=u(1.2, 4.5),
        setback=u(0.0, 5.0) if rng.random() < 0.4 else 0.0,
        drive_left=rng.random() < 0.5,
        built=u(0.2, 0.9),
        leafy=u(0.0, 1.0),
        parked=u(0.0, 1.0) ** 2,
        walkers=u(0.2, 1.6),
        furniture=u(0.5, 1.6),
        traffic=u(0.1, 0.9),
        cloud=u(0.0, 0.5),
    )


class Street:
    """One street with a camera on it; `draw` paints what it sees, `advance` lets time pass."""

    def __init__(self, rng: np.random.Generator, style: Style, size: tuple[int, int]) -> None:
        self.rng = rng
        self.style = style
        self.things: list[Thing] = []
        self.z = 0.0  # where the camera is along the street
        self.lane_x = (-1 if style.drive_left else 1) * style.road_half * rng.uniform(0.33, 0.5)
        self.classes = {
            SKY_REGION: SKY, ROAD_REGION: ROAD, LEFT_PAVEMENT: PAVEMENT, RIGHT_PAVEMENT: PAVEMENT,
        }  # fmt: skip
        self._next_region = FIRST_THING
        height = rng.uniform(0.25, 1.0)
        azimuth = rng.uniform(0, 2 * np.pi)
        flat = math.sqrt(1 - height**2)
        self._light = np.array([flat * math.cos(azimuth), height, flat * math.sin(azimuth)])
        self._darkness = rng.uniform(0.1, 0.6)
        self._make_ground()
        self._make_sky(size)
        self._built_to = {-1: -6.0, 1: rng.uniform(-6.0, 0.0)}
        self._furnished_to = {-1: 3.0, 1: 3.0}
        self._grow()
        for lane in (-1, 1):
            for _ in range(rng.poisson(style.traffic * style.sight / 20)):
                self._traffic(lane, rng.uniform(7, style.sight))

    # What the street is made of -----------------------------------------------------------------

    def _region(self, class_id: int) -> int:
        """An unused region id."""
        while self._next_region in self.classes:
            self._next_region = self._next_region % _MAX_REGION + 1
        self.classes[self._next_region] = class_id
        return self._next_region

    def _make_ground(self) -> None:
        rng, style = self.rng, self.style
        n = style.natural

        def pick(**ranges: tuple[float, float]) -> tuple[int, int, int]:
            return colour(rng, **ranges) if rng.random() < n else colour(rng)

        self._road_colour = pick(saturation=(0.0, 0.12), value=(0.2, 0.42))
        self._pavement_colour = pick(saturation=(0.0, 0.15), value=(0.2, 0.5))
        self._kerb_colour = pick(saturation=(0.0, 0.1), value=(0.35, 0.75))
        self._marking_colour = pick(saturation=(0.0, 0.1), value=(0.7, 1.0))
        grass = rng.random() < 0.5
        self._verge_colour = (
            pick(hue=(0.17, 0.33), saturation=(0.3, 0.7), value=(0.25, 0.6))
            if grass
            else pick(saturation=(0.0, 0.2), value=(0.25, 0.6))
        )
        self.classes[VERGE] = TREE if grass else PAVEMENT
        self._dash = (rng.uniform(1.5, 4.0), rng.uniform(3.0, 9.0), rng.uniform(0.08, 0.16))
        self._edge_line = rng.random() < 0.5
        wide, long = int(2 * _GROUND_HALF * _TEXELS), int(_TILE * _TEXELS)
        road = relief(rng, long, wide, rng.uniform(0.1, 0.4), kinds=(0, 1, 1, 1, 2))
        other = relief(rng, long, wide, rng.uniform(0.2, 0.6), kinds=(1, 5, 5, 6))
        kerb = int((_GROUND_HALF - style.road_half) * _TEXELS)
        other[:, kerb : wide - kerb] = road[:, kerb : wide - kerb]
        repeats = 1 + math.ceil(style.sight / _TILE)
        self._ground_relief = np.tile(other, (repeats, 1))

    def _make_sky(self, size: tuple[int, int]) -> None:
        rng, style = self.rng, self.style
        height, width = size
        if rng.random() < style.natural:
            hue = (0.53, 0.62)
            top = colour(rng, hue, (0.0, 0.4), (0.8, 1.0))
            low = colour(rng, hue, (0.0, 0.1), (0.92, 1.0))
        else:
            top, low = colour(rng, value=(0.2, 1.0)), colour(rng, value=(0.3, 1.0))
        ramp = np.linspace(0, 1, 64)[:, None, None] ** 1.5
        blend = ((1 - ramp) * np.array(top) + ramp * np.array(low)).astype(np.uint8)
        small = np.repeat(blend, 128, axis=1)
        cloud = relief(rng, 64, 128, style.cloud, zoom=0.4, kinds=(0,))
        small = cv2.multiply(small, cv2.merge((cloud, cloud, cloud)), scale=1 / RELIEF_UNIT)
        self._sky = cv2.resize(small, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        # The far end of the world: a skyline of trees or houses, from horizon up.
        n = int(rng.integers(12, 60))
        trees = rng.random() < 0.6
        levels = rng.uniform(0.2, 0.95, n)
        x = np.linspace(0, 2 * width, n)
        high = max(8, int(height * rng.uniform(0.06, 0.16)))
        if not trees:
            x, levels = np.repeat(x, 2)[1:], np.repeat(levels, 2)[:-1]
        edge = np.column_stack([x, high * (1 - levels)])
        mask = np.zeros((high, 2 * width), np.uint8)
        shape = np.vstack([[0, high], edge, [2 * width, high]])
        cv2.fillPoly(mask, [np.rint(shape).astype(np.int32)], 255)
        tone = colour(rng, (0.15, 0.4), (0.05, 0.3), (0.25, 0.6)) if trees else colour(
            rng, (0.0, 0.15), (0.0, 0.25), (0.3, 0.7))  # fmt: skip
        grain = relief(rng, high, 2 * width, 0.5, kinds=(6, 1) if trees else (4, 5))
        self._backdrop = Sprite(paint(np.zeros_like(mask), [tone], grain), mask, mask)
        self.classes[BACKDROP_REGION] = TREE if trees else BUILDING

    def _grow(self) -> None:
        """Make the street up to the limit of sight."""
        end = self.z + self.style.sight
        for side in (-1, 1):
            while self._built_to[side] < end:
                self._built_to[side] = self._lot(side, self._built_to[side])
            while self._furnished_to[side] < end:
                self._furnished_to[side] = self._furnish(side, self._furnished_to[side])

    def _lot(self, side: int, z: float) -> float:
        """One plot of land; returns where it ends."""
        rng, style = self.rng, self.style
        line = side * (style.road_half + style.pavement + style.setback)
        length = rng.uniform(7, 18)
        if rng.random() < style.built:
            tall = rng.uniform(5.5, 15) if rng.random() < 0.9 else rng.uniform(15, 26)
            self._wall("facade", BUILDING, line, z, length, tall, depth=rng.uniform(6, 12))
        else:
            for _ in range(int(rng.integers(1, 5))):
                x = line + side * rng.uniform(1.5, 12)
                self._standee(self._tree_kind(), TREE, x, z + rng.uniform(0, length), (4, 12))
        if style.setback > 1 or rng.random() > style.built:
            kind, class_id = ("fence", FENCE) if rng.random() < 0.6 else ("hedge", TREE)
            x = side * (style.road_half + style.pavement + 0.1)
            self._wall(kind, class_id, x, z, length, rng.uniform(0.8, 1.9))
        return z + length + (rng.uniform(0.5, 5) if rng.random() < 0.25 else 0.0)

    def _tree_kind(self) -> str:
        if self.rng.random() < 0.2:
            return "bush"
        return "leafy tree" if self.rng.random() < self.style.leafy else "bare tree"

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
        rng = self.rng
        thing = Standee(
            region=self._region(class_id),
            class_id=class_id,
            x=x,
            z=z,
            height=rng.uniform(*heights) * (0.35 if kind == "bush" else 1.0),
            velocity=velocity,
            figure=Figure(rng, kind, self.style.natural),
            base=base,
            flip=velocity[0] < 0 or (velocity[0] == 0 and rng.random() < 0.5),
            stride=stride,
        )
        self.things.append(thing)
        return thing

    def _wall(
        self, kind: str, class_id: int, x: float, z: float, length: float, height: float,
        depth: float = 0.0,
    ) -> None:  # fmt: skip
        picture = Figure(self.rng, kind, self.style.natural).sprite()
        if x * self._light[0] > 0:  # the sun is behind it
            picture.rgb = cv2.convertScaleAbs(picture.rgb, alpha=1 - 0.5 * self._darkness)
        end = picture.rgb[-40:, :4].mean((0, 1)) * self.rng.uniform(0.6, 1.0)
        self.things.append(
            Wall(
                region=self._region(class_id),
                class_id=class_id,
                x=x,
                z=z,
                height=height,
                picture=picture,
                length=length,
                depth=depth,
                end_colour=(int(end[0]), int(end[1]), int(end[2])),
            )
        )

    def _furnish(self, side: int, z: float) -> float:
        """The next ten metres of pavement and kerb; returns where they end."""
        rng, style = self.rng, self.style
        kerb = side * (style.road_half + 0.4)
        inner = side * (style.road_half + max(0.8, style.pavement - 0.5))
        if rng.random() < 0.5 * style.furniture:
            at = z + rng.uniform(0, 10)
            pole = self._standee("pole", POLE, kerb, at, (2.5, 9))
            if rng.random() < 0.5:
                face = rng.uniform(0.5, 1.0)
                base = min(pole.height - face, rng.uniform(2.0, 3.2))
                self._standee("sign", SIGN, kerb, at - 0.1, (face, face), base=max(0.5, base))
        if rng.random() < 0.25 * style.furniture:
            self._standee(
                "obstacle", NO_CLASS, rng.choice([kerb, inner]), z + rng.uniform(0, 10), (0.7, 1.3)
            )
        if rng.random() < 0.25 * style.furniture:
            self._standee(
                "sign", SIGN, inner, z + rng.uniform(0, 10), (0.6, 1.6), base=rng.uniform(1.5, 4)
            )
        if rng.random() < 0.3 * style.furniture:
            self._standee(
                self._tree_kind(), TREE, kerb + side * 0.4, z + rng.uniform(0, 10), (4, 9)
            )
        if rng.random() < style.parked:
            x = side * (style.road_half - 1.1)
            self._vehicle(x, z + rng.uniform(2, 6), 0.0 if rng.random() < 0.6 else np.pi, 0.0)
        for _ in range(rng.poisson(style.walkers)):
            self._walker(side, z + rng.uniform(0, 10))
        return z + 10

    def _vehicle(self, x: float, z: float, heading: float, wish: float) -> Vehicle:
        model = vehicles.models()[int(self.rng.integers(len(vehicles.models())))]
        palette = vehicles.body_palette(self.rng, self.style.natural)
        thing = Vehicle(
            region=self._region(CAR),
            class_id=CAR,
            x=x,
            z=z,
            height=model.height,
            body=vehicles.Body(model, palette, heading, self._light),
            heading=heading,
            wish=wish,
        )
        self.things.append(thing)
        return thing

    def _walker(self, side: int, z: float) -> None:
        """Somebody who walks or stands on the pavement, or crosses the road."""
        rng, style = self.rng, self.style
        x = side * (style.road_half + rng.uniform(0.3, max(0.6, style.pavement - 0.3)))
        pace = rng.choice([-1, 1]) * rng.uniform(0.8, 1.8)
        share = rng.random()
        if share < 0.1:
            self.crossing(z)
            return
        velocity = (0.0, 0.0) if share < 0.3 else (0.0, pace)
        kind = "person" if rng.random() < 0.8 else "person aside"
        self._standee(kind, PEDESTRIAN, x, z, (1.5, 1.9), velocity=velocity)

    def crossing(self, z: float) -> None:
        """Somebody who crosses the road at z, on foot or by bicycle."""
        way = float(self.rng.choice([-1, 1]))
        x = -way * self.style.road_half * self.rng.uniform(0.2, 1.1)
        velocity = (way * self.rng.uniform(1.0, 1.8), self.rng.normal(0, 0.15))
        if self.rng.random() < 0.8:
            self._standee("person aside", PEDESTRIAN, x, z, (1.5, 1.9), velocity=velocity)
        else:
            self._standee("cyclist aside", BICYCLIST, x, z, (1.6, 1.8), velocity=velocity)

    def _traffic(self, side: int, z: float) -> None:
        """A vehicle or a cyclist in the lane of one side of the road."""
        rng, style = self.rng, self.style
        way = 1 if (side < 0) == style.drive_left else -1
        if rng.random() < 0.45:
            x = side * (style.road_half - rng.uniform(0.5, 1.4) - 1.2 * (style.parked > 0.2))
            velocity = (0.0, way * rng.uniform(3, 7))
            self._standee("cyclist", BICYCLIST, x, z, (1.65, 1.9), velocity=velocity, stride=4.0)
        else:
            heading = 0.0 if way > 0 else math.pi
            self._vehicle(side * abs(self.lane_x), z, heading, rng.uniform(7, 14))

    # Time ---------------------------------------------------------------------------------------

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
                self._traffic(lane, horizon)
        for thing in self.things:
            if thing.far_z() < self.z - _BEHIND or thing.z > horizon + 30:
                del self.classes[thing.region]
        self.things = [thing for thing in self.things if thing.region in self.classes]
        self._grow()

    # Painting -----------------------------------------------------------------------------------

    def draw(self, view: View) -> Canvas:
        """The street as the view sees it."""
        canvas = Canvas(*view.size)
        self._draw_ground(canvas, view)
        self._draw_sky(canvas, view)

        def depth(thing: Thing) -> float:
            return view.project(thing.x, 0.0, thing.paint_z())[2]

        for thing in sorted(self.things, key=depth, reverse=True):
            thing.draw(canvas, view)
        return canvas

    def _draw_ground(self, canvas: Canvas, view: View) -> None:
        style = self.style
        height, width = view.size
        top = max(0, int(view.horizon()[:, 1].min()) - 1)
        if top >= height:
            return
        canvas.rgb[top:] = self._verge_colour
        canvas.ids[top:] = VERGE
        z0, z1 = self.z - 8.0, self.z + 400.0
        edge, wide = style.road_half, style.road_half + style.pavement

        def strip(x0: float, x1: float, rgb: tuple[int, int, int], region: int = 0,
                  start: float = z0, end: float = z1) -> None:  # fmt: skip
            corners = np.array([(x0, 0, start), (x1, 0, start), (x1, 0, end), (x0, 0, end)])
            outline = view.polygon(corners)
            if outline is not None:
                fill(canvas, fixed_point(outline), rgb, region)

        strip(-wide, -edge, self._pavement_colour, LEFT_PAVEMENT)
        strip(edge, wide, self._pavement_colour, RIGHT_PAVEMENT)
        strip(-edge, edge, self._road_colour, ROAD_REGION)
        for side in (-1, 1):
            strip(side * edge, side * (edge + 0.15), self._kerb_colour)
            if self._edge_line:
                strip(side * (edge - 0.45), side * (edge - 0.35), self._marking_colour)
        dash, gap, half = self._dash
        period = dash + gap
        first = math.floor(self.z / period)
        for i in range(first, first + int(50 / period)):
            start = max(i * period, z0)
            if i * period + dash > start:
                strip(-half, half, self._marking_colour, 0, start, i * period + dash)

        # Texture and shadows darken the colours.
        origin = math.floor(self.z / _TILE) * _TILE
        m = view.matrix
        step = 1 / _TEXELS
        to_image = np.column_stack(
            [m[:, 0] * step, m[:, 2] * step, m[:, 3] - m[:, 0] * _GROUND_HALF + m[:, 2] * origin]
        )
        to_image = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1]]) @ to_image
        size = (width, height - top)
        tone = cv2.warpPerspective(
            self._ground_relief, to_image, size, borderMode=cv2.BORDER_REPLICATE
        )
        tone = cv2.multiply(tone, self._shadows(view)[top:], scale=1 / 255)
        tone = cv2.merge((tone, tone, tone))
        canvas.rgb[top:] = cv2.multiply(canvas.rgb[top:], tone, scale=1 / RELIEF_UNIT)

    def _shadows(self, view: View) -> Image:
        """(H, W) 255 in the light, less in the shadow of things."""
        light = np.full(view.size, 255, np.uint8)
        dark = int(255 * (1 - self._darkness))
        for thing in self.things:
            if thing.far_z() < self.z - 5 or thing.z > self.z + thing.shadow_sight:
                continue
            outline = thing.shadow(self._light)
            polygon = None if outline is None else view.polygon(outline)
            if polygon is not None:
                fill_mask(light, fixed_point(polygon), dark)
        return cv2.blur(light, (3, 3))

    def _draw_sky(self, canvas: Canvas, view: View) -> None:
        height, width = view.size
        left, right = view.horizon()
        above = fixed_point(np.array([(0, -height), (width, -height), right, left]))
        mask = np.zeros((height, width), np.uint8)
        fill_mask(mask, above, 255)
        x = int(np.clip(width / 2 + view.focal * view.yaw, 0, width))
        y = int(np.clip(2 * height - (left[1] + right[1]) / 2, 0, height))
        cv2.copyTo(self._sky[y : y + height, x : x + width], mask, canvas.rgb)
        canvas.ids[mask > 0] = SKY_REGION
        c, s = math.cos(view.roll), -math.sin(view.roll)
        foot = (left + right) / 2 + (0, height * 0.012)
        high = self._backdrop.alpha.shape[0]
        linear = np.array([[c, -s], [s, c]])
        matrix = np.column_stack([linear, foot - linear @ (width / 2 + x, high)])
        canvas.sprite(self._backdrop, matrix, BACKDROP_REGION)


class StreetScene:
    """A short look at a random street. class_ids gives the class of each region; `draw(t)`
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
