"""Abstract scenes: shapes and figures that move before patches of texture.

They teach what a region is, whatever it shows: outlines, occlusion, motion, leaving and returning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sam2vss_ros.training.procedural.classes import (
    BICYCLIST,
    NO_CLASS,
    PEDESTRIAN,
    POLE,
    SIGN,
    TREE,
)
from sam2vss_ros.training.procedural.paint import Canvas, Image, Sprite, colour, paint, relief
from sam2vss_ros.training.procedural.sprites.figure import Figure

_FIGURES = {  # CamVid's classes of the figures; None stands for a plain shape
    "shape": NO_CLASS,
    "person": PEDESTRIAN,
    "person aside": PEDESTRIAN,
    "cyclist": BICYCLIST,
    "cyclist aside": BICYCLIST,
    "leafy tree": TREE,
    "bare tree": TREE,
    "bush": TREE,
    "pole": POLE,
    "sign": SIGN,
    "obstacle": NO_CLASS,
}
_FIGURE_SHARE = np.array([0.62, 0.05, 0.04, 0.03, 0.03, 0.04, 0.03, 0.03, 0.04, 0.05, 0.04])
_MARGIN = 0.15  # how far the background reaches beyond the picture, share of its size


@dataclass
class _Mover:
    """An object; positions in pixels, angles in radians, rates per frame."""

    figure: Figure
    animated: bool
    start: tuple[float, float]
    velocity: tuple[float, float]
    height: float
    growth: float
    stretch: float
    angle: float
    spin: float
    turn_back: float  # the frame at which it reverses, so that it may leave and return

    def sprite(self, t: int) -> Sprite:
        return self.figure.sprite(t / 6 if self.animated else 0.0)

    def matrix(self, frame: float) -> np.ndarray:
        """(3, 3) from sprite to scene."""
        t = frame if frame < self.turn_back else 2 * self.turn_back - frame
        h, w = self.figure.shape
        scale, angle = self.height / h * math.exp(self.growth * t), self.angle + self.spin * t
        c, s, k = scale * math.cos(angle), scale * math.sin(angle), self.stretch
        x, y = (p + v * t for p, v in zip(self.start, self.velocity, strict=True))
        return np.array(
            [
                [c * k, -s / k, x - (c * k * w - s / k * h) / 2],
                [s * k, c / k, y - (s * k * w + c / k * h) / 2],
                [0, 0, 1],
            ]
        )


class AbstractScene:
    """One random scene. class_ids[i] is the class of region i; `draw(t)` paints frame t."""

    def __init__(self, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> None:
        self._size = size
        height, width = size
        hard = rng.random() < 0.3
        pace = rng.uniform(2.0, 5.0) if hard else 1.0
        self.class_ids: dict[int, int] = {}
        self._background, self._regions = self._make_background(rng)

        kinds = list(_FIGURES)
        movers = []
        for _ in range(int(rng.integers(2, 15))):
            kind = kinds[int(rng.choice(len(kinds), p=_FIGURE_SHARE))]
            movers.append((_mover(rng, kind, frames, size, pace, hard), _FIGURES[kind]))
        if rng.random() < 0.7:  # what stands lower is nearer
            movers.sort(key=lambda m: m[0].start[1] + m[0].height / 2)
        self._movers = [m for m, _ in movers]
        self._first_id = len(self.class_ids) + 1
        self.class_ids.update(enumerate((class_id for _, class_id in movers), self._first_id))

        moving = pace * (rng.random() < 0.6)
        self._pan = rng.normal(0, 0.006, 2) * (width, height) * moving
        self._zoom, self._roll = rng.normal(0, 0.006, 2) * min(moving, 2)
        self._shade = _shade(rng, size) if rng.random() < 0.3 else None

    def draw(self, t: int) -> Canvas:
        height, width = self._size
        c = math.exp(self._zoom * t) * math.cos(self._roll * t)
        s = math.exp(self._zoom * t) * math.sin(self._roll * t)
        x, y = self._pan * t + (width / 2, height / 2)
        camera = np.array(
            [
                [c, -s, x - c * width / 2 + s * height / 2],
                [s, c, y - s * width / 2 - c * height / 2],
                [0, 0, 1],
            ]
        )
        canvas = Canvas(height, width)
        shift = np.array([[1, 0, -_MARGIN * width], [0, 1, -_MARGIN * height], [0, 0, 1]])
        m = (camera @ shift)[:2]
        reflect = cv2.BORDER_REFLECT
        canvas.rgb = cv2.warpAffine(self._background, m, (width, height), borderMode=reflect)
        canvas.ids[:] = cv2.warpAffine(
            self._regions, m, (width, height), flags=cv2.INTER_NEAREST, borderMode=reflect
        )
        for i, mover in enumerate(self._movers):
            canvas.sprite(mover.sprite(t), (camera @ mover.matrix(t))[:2], self._first_id + i)
        if self._shade is not None:
            canvas.rgb = cv2.multiply(canvas.rgb, self._shade, scale=1 / 255)
        return canvas

    def _make_background(self, rng: np.random.Generator) -> tuple[Image, Image]:
        """(H', W', 3) picture and (H', W') region ids, larger than a frame; adds the regions."""
        height, width = (round(n * (1 + 2 * _MARGIN)) for n in self._size)
        ids = np.ones((height, width), np.uint8)
        rgb = np.empty((height, width, 3), np.uint8)
        count = 0
        for mask in _layers(rng, height, width):
            count += 1
            palette = [colour(rng, saturation=(0.0, float(rng.choice([0.2, 1.0]))))]
            contrast = rng.uniform(0.0, 0.8)
            texture = relief(rng, height, width, contrast, zoom=float(np.exp(rng.uniform(-0.5, 1))))
            layer = paint(np.zeros((height, width), np.uint8), palette, texture)
            cv2.copyTo(layer, mask, rgb)
            ids[mask > 0] = count
        self.class_ids.update(dict.fromkeys(range(1, count + 1), NO_CLASS))
        return rgb, ids


def _mover(
    rng: np.random.Generator,
    kind: str,
    frames: int,
    size: tuple[int, int],
    pace: float,
    hard: bool,
) -> _Mover:
    n = max(size)
    plain = kind in ("shape", "obstacle", "sign")
    static = rng.random() < 0.25
    speed = 0.0 if static else math.exp(rng.normal(0, 0.7)) * 0.012 * n * pace
    way = rng.uniform(0, 2 * np.pi)
    turning = plain and rng.random() < 0.5
    returns = hard and rng.random() < 0.5
    start = (rng.uniform(0.02, 0.98) * size[1], rng.uniform(0.05, 0.98) * size[0])
    if returns:  # starts near an edge, leaves across it at full speed and comes back
        edge = int(rng.integers(4))
        way = (0.0, 0.5, 1.0, 1.5)[edge] * np.pi
        speed = n * rng.uniform(0.1, 0.2)
        x, y = ((0.9, None), (None, 0.9), (0.1, None), (None, 0.1))[edge]
        start = (start[0] if x is None else x * size[1], start[1] if y is None else y * size[0])
    reach = (0.06, 0.2) if returns else (0.07, 0.5)
    return _Mover(
        figure=Figure(rng, kind, natural=0.5),
        animated=not static,
        start=start,
        velocity=(speed * math.cos(way), speed * math.sin(way)),
        height=n * math.exp(rng.uniform(*np.log(reach))),
        growth=0.0 if static else rng.normal(0, 0.015) * min(pace, 2.5),
        stretch=math.exp(rng.normal(0, 0.2 if plain else 0.08)),
        angle=rng.uniform(-np.pi, np.pi) if turning else rng.normal(0, 0.1),
        spin=0.0 if static else rng.normal(0, 0.06 if turning else 0.012) * pace,
        turn_back=(frames - 1) / 2 if returns else math.inf,
    )


def _layers(rng: np.random.Generator, height: int, width: int) -> list[Image]:
    """Masks (H, W) 0 or 255 of the background's regions, painted one over the other."""
    full = np.full((height, width), 255, np.uint8)
    n = int(rng.integers(1, 7))
    kind = rng.integers(3)
    masks = [full]
    if kind == 0:  # wavy horizontal bands
        for level in np.sort(rng.uniform(0.1, 0.9, n)):
            edge = level * height + _wave(rng, width) * height * rng.uniform(0.0, 0.06)
            points = [(0, height), *zip(range(width), edge.tolist(), strict=True), (width, height)]
            masks.append(_filled(height, width, points))
    elif kind == 1:  # half planes: walls, floors, slopes
        for _ in range(n):
            angle = rng.normal(0, 0.3) + rng.integers(4) * np.pi / 2
            across = np.array([math.cos(angle), math.sin(angle)])
            along = np.array([-across[1], across[0]])
            p = rng.uniform(0.15, 0.85, 2) * (width, height)
            far = 2 * (width + height)
            corners = [p - far * along, p + far * along, p + far * (along + across)]
            masks.append(_filled(height, width, [*corners, p + far * (across - along)]))
    else:  # nearest of some centres, with crooked borders
        small = (max(2, width // 4), max(2, height // 4))
        y, x = np.mgrid[0 : small[1], 0 : small[0]].astype(np.float32)
        x += cv2.resize(rng.normal(0, small[0] * 0.06, (6, 6)).astype(np.float32), small)
        y += cv2.resize(rng.normal(0, small[1] * 0.06, (6, 6)).astype(np.float32), small)
        centres = rng.random((n + 1, 2)) * small
        nearest = np.argmin([(x - a) ** 2 + (y - b) ** 2 for a, b in centres], axis=0)
        for i in range(1, n + 1):
            patch = np.where(nearest == i, 255, 0).astype(np.uint8)
            patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
            masks.append(cv2.threshold(patch, 127, 255, cv2.THRESH_BINARY)[1])
    return masks


def _wave(rng: np.random.Generator, width: int) -> np.ndarray:
    knots = rng.standard_normal((1, int(rng.integers(2, 24)))).astype(np.float32)
    smooth = cv2.INTER_CUBIC if rng.random() < 0.7 else cv2.INTER_NEAREST
    return cv2.resize(knots, (width, 1), interpolation=smooth)[0]


def _filled(height: int, width: int, points: list) -> Image:
    mask = np.zeros((height, width), np.uint8)
    return cv2.fillPoly(mask, [np.round(np.array(points)).astype(np.int32)], 255)


def _shade(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Cast shadows (H, W, 3), 255 where there is light."""
    tone = relief(rng, *size, contrast=1.0, zoom=rng.uniform(2, 6), kinds=(0, 1, 7))
    dark = cv2.threshold(tone, rng.uniform(128, 170), rng.uniform(60, 150), cv2.THRESH_BINARY)[1]
    shade = 255 - cv2.GaussianBlur(dark, (0, 0), rng.uniform(1, 4))
    return cv2.merge((shade, shade, shade))
