"""Flat things of the procedural scenes: people, cyclists, trees, poles, signs and plain shapes.

A design is drawn once per process in a part map (clothes, skin, crown, trunk ...); each object in
a scene takes a design and paints its parts in own colours. Designs come in lists of variants; a
variant is a tuple of phases (the steps of a walk, one phase for what does not move).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import cv2
import numpy as np

from sam2vss_ros.training.procedural.paint import (
    RELIEF_UNIT,
    Image,
    Range,
    Sprite,
    colour,
    paint,
    relief,
)

_WALK_PHASES = 6


@dataclass(frozen=True)
class Design:
    """parts (H, W) uint8; alpha and mask (H, W) 0..255, see Sprite."""

    parts: Image
    alpha: Image
    mask: Image


@dataclass(frozen=True)
class Tint:
    """Ranges of hue, saturation and value that look natural for a part."""

    hue: Range = (0.0, 1.0)
    saturation: Range = (0.0, 1.0)
    value: Range = (0.1, 0.9)


CLOTH = Tint(saturation=(0.0, 0.6), value=(0.04, 0.45))
SKIN = Tint((0.02, 0.09), (0.2, 0.55), (0.35, 0.9))
HAIR = Tint((0.02, 0.12), (0.1, 0.6), (0.05, 0.5))
METAL = Tint(saturation=(0.0, 0.2), value=(0.1, 0.55))
LEAF = Tint((0.12, 0.36), (0.15, 0.7), (0.15, 0.55))
BARK = Tint((0.02, 0.12), (0.05, 0.45), (0.1, 0.45))
BRIGHT = Tint(saturation=(0.2, 1.0), value=(0.25, 0.9))
ANY = Tint()


class _Pen:
    """Draws parts in unit coordinates: x and y from 0 to 1 across a canvas of width x height."""

    def __init__(self, height: int, width: int) -> None:
        self.parts = np.zeros((height, width), np.uint8)
        self.alpha = np.zeros((height, width), np.uint8)
        self._scale = np.array([width, height], np.float32)
        self._unit = height

    def _pixels(self, points: object) -> np.ndarray:
        return np.round(np.asarray(points, np.float32).reshape(-1, 2) * self._scale).astype(
            np.int32
        )

    def polygon(self, part: int, *xy: float) -> None:
        points = self._pixels(xy)
        cv2.fillPoly(self.parts, [points], part)
        cv2.fillPoly(self.alpha, [points], 255)

    def line(self, part: int, thickness: float, *xy: float) -> None:
        """A polyline with round ends; thickness is a share of the height."""
        points = self._pixels(xy)
        t = max(1, round(thickness * self._unit))
        cv2.polylines(self.parts, [points], False, part, t)
        cv2.polylines(self.alpha, [points], False, 255, t)

    def ellipse(
        self, part: int, x: float, y: float, rx: float, ry: float, outline: float = 0.0
    ) -> None:
        """Radii are shares of the height; `outline` draws a ring that thick instead of a disc."""
        centre = self._pixels((x, y))[0].tolist()
        axes = (max(1, round(rx * self._unit)), max(1, round(ry * self._unit)))
        t = max(1, round(outline * self._unit)) if outline else -1
        cv2.ellipse(self.parts, centre, axes, 0, 0, 360, part, t)
        cv2.ellipse(self.alpha, centre, axes, 0, 0, 360, 255, t)

    def design(self, close: float = 0.0) -> Design:
        """The finished design; its mask closes gaps up to a share `close` of the height."""
        alpha = cv2.GaussianBlur(self.alpha, (3, 3), 0)
        mask = alpha
        if close:
            k = 2 * round(close * self._unit / 2) + 1
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))
            padded = cv2.copyMakeBorder(self.alpha, k, k, k, k, cv2.BORDER_CONSTANT, value=0)
            mask = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[k:-k, k:-k].copy()
        # Colours reach beyond the outline so that soft edges do not show the canvas.
        near = cv2.dilate(self.parts, np.ones((5, 5), np.uint8))
        return Design(np.where(self.alpha > 0, self.parts, near), alpha, mask)


# Parts of a person: 0 skin, 1 top, 2 trousers, 3 hair, 4 shoes, 5 bag.
PERSON_TINTS = [SKIN, CLOTH, CLOTH, HAIR, METAL, CLOTH]


def _person(rng: np.random.Generator, side: bool) -> tuple[Design, ...]:
    """A walker going to the right, or seen from behind; the canvas is twice as high as wide."""
    u = rng.uniform
    shoulder = u(0.10, 0.15) if side else u(0.17, 0.24)  # half width, share of the canvas width
    leg, arm, head = u(0.045, 0.065), u(0.035, 0.05), u(0.055, 0.07)
    hip, skirt, coat = u(0.48, 0.54), rng.random() < 0.2, u(0.5, 0.7) if rng.random() < 0.35 else 0
    stride = u(0.14, 0.26) if side else u(0.03, 0.08)
    hair, bag = u(0.0, 0.05), rng.random() < 0.35
    bag_x, bag_y = 0.5 + rng.choice([-1, 1]) * (shoulder + u(0.03, 0.09)), u(0.3, 0.6)
    still = rng.random() < 0.25
    phases = []
    for i in range(1 if still else _WALK_PHASES):
        swing = 0.3 if still else np.sin(2 * np.pi * i / _WALK_PHASES)
        pen = _Pen(144, 72)
        for s in (-1, 1):
            foot = 0.5 + s * (stride * swing + (0 if side else shoulder * 0.45))
            hip_x = 0.5 if side else 0.5 + s * shoulder * 0.45
            lift = 0.03 * max(0.0, float(s * swing))
            knee = (hip_x + foot) / 2 + (0.04 if side else 0)
            pen.line(2, leg, hip_x, hip, knee, 0.74, foot, 0.96 - lift)
            pen.line(4, leg * 0.9, foot, 0.965 - lift, foot + 0.05 * side, 0.97 - lift)
            hand = 0.5 + s * ((-stride if side else 0) * swing + (0 if side else shoulder + 0.06))
            elbow = 0.5 + s * (shoulder * (0.2 if side else 1.1)) - s * 0.05 * swing
            pen.line(
                1, arm, 0.5 + s * shoulder * (0.1 if side else 0.9), 0.2, elbow, 0.36, hand, 0.5
            )
            pen.ellipse(0, hand, 0.51, arm * 0.5, arm * 0.5)
        w = shoulder
        pen.polygon(1, 0.5 - w, 0.19, 0.5 + w, 0.19, 0.5 + w * 0.9, hip, 0.5 - w * 0.9, hip)
        if skirt or coat:
            low = coat or 0.68
            pen.polygon(
                1 if coat else 2, 0.5 - w, hip - 0.08, 0.5 + w, hip - 0.08, 0.5 + w * 1.2, low,
                0.5 - w * 1.2, low,
            )  # fmt: skip
        if bag:
            pen.ellipse(5, bag_x, bag_y, 0.05, 0.07)
        pen.line(0, 0.05, 0.5, 0.13, 0.5, 0.19)
        pen.ellipse(0, 0.5, 0.09, head * 0.85, head)
        pen.ellipse(3, 0.5 - 0.03 * side, 0.07 + hair / 2, head * 0.9, head * 0.7 + hair)
        if side or rng.random() < 0.1:
            pen.ellipse(0, 0.55, 0.1, head * 0.5, head * 0.7)
        phases.append(pen.design())
    return tuple(phases)


# Parts of a cyclist: 0 to 5 as of a person, 6 frame, 7 tyres.
BICYCLIST_TINTS = [*PERSON_TINTS, ANY, METAL]


def _cyclist(rng: np.random.Generator, side: bool) -> tuple[Design, ...]:
    """A cyclist going to the right (canvas 144 x 144), or from behind (144 x 72)."""
    u = rng.uniform
    lean, helmet, leg = u(0.05, 0.2), rng.random() < 0.5, u(0.05, 0.065)
    width = u(0.15, 0.22)
    phases = []
    for i in range(_WALK_PHASES):
        a = 2 * np.pi * i / _WALK_PHASES
        pen = _Pen(144, 144 if side else 72)
        if side:
            for x in (0.2, 0.8):
                pen.ellipse(7, x, 0.79, 0.185, 0.185, outline=0.022)
            pen.line(6, 0.02, 0.2, 0.79, 0.42, 0.52, 0.7, 0.52, 0.48, 0.79, 0.2, 0.79)
            pen.line(6, 0.02, 0.42, 0.5, 0.48, 0.79)
            pen.line(6, 0.02, 0.8, 0.79, 0.69, 0.45, 0.74, 0.44)
            for s in (0, np.pi):
                px, py = 0.48 + 0.07 * np.cos(a + s), 0.79 + 0.07 * np.sin(a + s)
                pen.line(2, leg, 0.4, 0.46, px + 0.12, (0.46 + py) / 2 - 0.02, px, py)
                pen.ellipse(4, px + 0.02, py, 0.03, 0.018)
            top = 0.45 + lean
            pen.line(1, 0.12, 0.4, 0.44, top, 0.2)
            pen.line(1, 0.045, top, 0.2, (top + 0.72) / 2, 0.38, 0.72, 0.43)
            pen.ellipse(0, top + 0.05, 0.09, 0.055, 0.065)
            pen.ellipse(5 if helmet else 3, top + 0.03, 0.06, 0.06, 0.045)
        else:
            pen.line(7, 0.035, 0.5, 0.62, 0.5, 0.97)
            pen.line(6, 0.02, 0.5 - width * 1.3, 0.42, 0.5 + width * 1.3, 0.42)
            for s in (-1, 1):
                lift = 0.06 * np.sin(a) * s
                pen.line(
                    2,
                    leg,
                    0.5 + s * 0.1,
                    0.5,
                    0.5 + s * 0.17,
                    0.65 - lift,
                    0.5 + s * 0.13,
                    0.82 - lift,
                )
                pen.ellipse(4, 0.5 + s * 0.13, 0.84 - lift, 0.022, 0.03)
                pen.line(1, 0.045, 0.5 + s * width, 0.22, 0.5 + s * width * 1.35, 0.42)
            w = width
            pen.polygon(1, 0.5 - w, 0.18, 0.5 + w, 0.18, 0.5 + w * 0.75, 0.54, 0.5 - w * 0.75, 0.54)
            pen.ellipse(0, 0.5, 0.1, 0.05, 0.06)
            pen.ellipse(5 if helmet else 3, 0.5, 0.075, 0.055, 0.055)
        phases.append(pen.design(close=0.08 if side else 0.0))
    return tuple(phases)


# Parts of a tree: 0 crown, 1 lit crown, 2 trunk.
TREE_TINTS = [LEAF, LEAF, BARK]


def _leafy_tree(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = _Pen(160, 128)
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


def _bare_tree(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = _Pen(160, 128)

    def branch(x: float, y: float, angle: float, length: float, thickness: float) -> None:
        x1, y1 = x + length * np.sin(angle), y - length * np.cos(angle)
        pen.line(2, thickness, x, y, x1, y1)
        if length > 0.035:
            for _ in range(int(rng.integers(2, 4))):
                turn = 0.8 * angle + rng.normal(0, 0.5)
                branch(x1, y1, turn, length * rng.uniform(0.6, 0.8), thickness * 0.6)

    branch(0.5, 1.0, rng.normal(0, 0.05), rng.uniform(0.17, 0.22), rng.uniform(0.025, 0.04))
    return (pen.design(close=0.1),)


def _bush(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = _Pen(96, 144)
    for _ in range(int(rng.integers(15, 35))):
        x = rng.uniform(0.12, 0.88)
        top = 0.9 - 0.7 * np.sin(np.pi * x) * rng.uniform(0.5, 1)
        pen.ellipse(
            int(rng.random() < 0.4), x, rng.uniform(top, 0.9), 0.14, rng.uniform(0.08, 0.13)
        )
    pen.alpha[-4:] = 0
    return (pen.design(),)


# Parts of a pole: 0 column, 1 lamp or head.
POLE_TINTS = [METAL, METAL]


def _pole(rng: np.random.Generator) -> tuple[Design, ...]:
    """A lamp post, a plain post or a bollard; the canvas is four times as high as wide."""
    pen = _Pen(256, 64)
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


def _sign(rng: np.random.Generator) -> tuple[Design, ...]:
    """A round, triangular or rectangular sign, a board with writing, or a traffic light."""
    u, kind = rng.uniform, rng.integers(5)
    pen = _Pen(96, 48 if kind == 4 else 96)
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


def _facade(rng: np.random.Generator) -> tuple[Design, ...]:
    """A house front: storeys of windows, a ground floor with doors or shops, perhaps a roof."""
    u, pen = rng.uniform, _Pen(160, 176)
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


def _fence(rng: np.random.Generator) -> tuple[Design, ...]:
    """Eight metres of railings or boards; one sees through railings, but they are one region."""
    pen, n = _Pen(48, 256), int(rng.integers(4, 9))
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


def _hedge(rng: np.random.Generator) -> tuple[Design, ...]:
    pen = _Pen(64, 192)
    knots = rng.uniform(0.05, 0.3, 14)
    x = np.linspace(0, 1, 60)
    edge = np.interp(x, np.linspace(0, 1, 14), knots) + rng.uniform(0, 0.05, 60)
    pen.polygon(0, 0, 1, *np.column_stack([x, edge]).ravel().tolist(), 1, 1)
    for _ in range(25):
        y = rng.uniform(0.35, 0.9)
        pen.ellipse(1, rng.uniform(0, 1), y, rng.uniform(0.04, 0.12), 0.07)
    return (Design(pen.parts, pen.alpha, pen.alpha),)


OBSTACLE_TINTS = [ANY, BRIGHT, CLOTH]


def _obstacle(rng: np.random.Generator) -> tuple[Design, ...]:
    """A litter bin, a traffic cone or a box: street furniture without a class."""
    pen, kind, u = _Pen(96, 72), rng.integers(3), rng.uniform
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


SHAPE_TINTS = [Tint(value=(0.05, 1.0)), Tint(value=(0.05, 1.0)), Tint(value=(0.05, 1.0))]


def _shape(rng: np.random.Generator) -> tuple[Design, ...]:
    """A plain closed shape: blob, polygon, star, ball, ring, box or capsule."""
    pen, kind, u = _Pen(128, 128), rng.integers(7), rng.uniform
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


_MAKERS: dict[str, tuple[Callable[[np.random.Generator], tuple[Design, ...]], int]] = {
    "person": (partial(_person, side=False), 32),
    "person aside": (partial(_person, side=True), 32),
    "cyclist": (partial(_cyclist, side=False), 24),
    "cyclist aside": (partial(_cyclist, side=True), 24),
    "leafy tree": (_leafy_tree, 24),
    "bare tree": (_bare_tree, 24),
    "bush": (_bush, 12),
    "pole": (_pole, 24),
    "sign": (_sign, 40),
    "facade": (_facade, 40),
    "fence": (_fence, 12),
    "hedge": (_hedge, 8),
    "obstacle": (_obstacle, 24),
    "shape": (_shape, 96),
}
_TINTS = {
    "person": PERSON_TINTS,
    "person aside": PERSON_TINTS,
    "cyclist": BICYCLIST_TINTS,
    "cyclist aside": BICYCLIST_TINTS,
    "leafy tree": TREE_TINTS,
    "bare tree": TREE_TINTS,
    "bush": TREE_TINTS,
    "pole": POLE_TINTS,
    "sign": SIGN_TINTS,
    "facade": FACADE_TINTS,
    "fence": FENCE_TINTS,
    "hedge": TREE_TINTS,
    "obstacle": OBSTACLE_TINTS,
    "shape": SHAPE_TINTS,
}


@lru_cache(maxsize=len(_MAKERS))
def designs(kind: str) -> list[tuple[Design, ...]]:
    """All designs of a kind; the same in every process."""
    maker, count = _MAKERS[kind]
    rng = np.random.default_rng(sum(kind.encode()))
    return [maker(rng) for _ in range(count)]


class Figure:
    """One object of a kind in random colours. Its phases are painted when they are asked for.

    `natural` is the chance that a part keeps to the colours of its kind; else it takes any.
    """

    def __init__(self, rng: np.random.Generator, kind: str, natural: float) -> None:
        variants = designs(kind)
        self._variant = variants[int(rng.integers(len(variants)))]
        self._painted: list[Sprite | None] = [None] * len(self._variant)
        height, width = self._variant[0].alpha.shape
        self.shape = (height, width)
        self._kind, self._natural, self._seed = kind, natural, int(rng.integers(2**32))

    @cached_property
    def _paints(self) -> tuple[list[tuple[int, int, int]], Image]:
        """Palette and relief; what is never seen never needs them."""
        rng, kind = np.random.default_rng(self._seed), self._kind
        palette = [
            colour(rng, t.hue, t.saturation, t.value)
            if rng.random() < self._natural
            else colour(rng)
            for t in _TINTS[kind]
        ]
        h, w = self.shape
        leaves = "tree" in kind or kind in ("bush", "hedge")
        contrast = rng.uniform(0.3, 0.8) if leaves else rng.uniform(0.0, 0.6)
        kinds = (1, 6, 7) if leaves else ()
        texture = relief(rng, h, w, contrast, zoom=rng.uniform(0.5, 2.0), kinds=kinds)
        return palette, cv2.multiply(texture, _slope(rng, h, w), scale=1 / RELIEF_UNIT)

    def sprite(self, cycle: float = 0.0) -> Sprite:
        """The picture at a place in the cycle of phases; one cycle is 1."""
        i = int(cycle * len(self._variant)) % len(self._variant)
        sprite = self._painted[i]
        if sprite is None:
            d = self._variant[i]
            sprite = Sprite(paint(d.parts, *self._paints), d.alpha, d.mask)
            self._painted[i] = sprite
        return sprite


@lru_cache(maxsize=64)
def _ramp(height: int, width: int) -> tuple[Image, Image]:
    """Reliefs of 0..255 that grow along x and along y."""
    x = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    y = np.tile(np.linspace(0, 255, height).astype(np.uint8)[:, None], (1, width))
    return x, y


def _slope(rng: np.random.Generator, height: int, width: int) -> Image:
    """Light from one side: a linear relief about RELIEF_UNIT."""
    x, y = _ramp(height, width)
    a, b = rng.uniform(-0.3, 0.3, 2)
    return cv2.addWeighted(x, a, y, b, 128 - 127.5 * (a + b))
