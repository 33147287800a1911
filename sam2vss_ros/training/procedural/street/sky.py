"""The sky over a street, and the skyline at the far end of it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2vss_ros.training.procedural.classes import BUILDING, SKY, TREE
from sam2vss_ros.training.procedural.paint import (
    RELIEF_UNIT,
    Canvas,
    Image,
    Sprite,
    colour,
    paint,
    relief,
)
from sam2vss_ros.training.procedural.street.regions import BACKDROP_REGION, SKY_REGION
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.view import View, fill_mask, fixed_point


class Sky:
    """A picture of the sky, twice as large as the camera's, and a skyline of trees or houses.

    `classes` has the class of each of its regions.
    """

    def __init__(self, rng: np.random.Generator, style: Style, size: tuple[int, int]) -> None:
        self._picture = _clouded_sky(rng, style, size)
        self._skyline, trees = _skyline(rng, size)
        self.classes = {SKY_REGION: SKY, BACKDROP_REGION: TREE if trees else BUILDING}

    def draw(self, canvas: Canvas, view: View) -> None:
        height, width = view.size
        left, right = view.horizon()
        above = fixed_point(np.array([(0, -height), (width, -height), right, left]))
        mask = np.zeros((height, width), np.uint8)
        fill_mask(mask, above, 255)
        x = int(np.clip(width / 2 + view.focal * view.yaw, 0, width))
        y = int(np.clip(2 * height - (left[1] + right[1]) / 2, 0, height))
        cv2.copyTo(self._picture[y : y + height, x : x + width], mask, canvas.rgb)
        canvas.ids[mask > 0] = SKY_REGION
        c, s = math.cos(view.roll), -math.sin(view.roll)
        foot = (left + right) / 2 + (0, height * 0.012)
        high = self._skyline.alpha.shape[0]
        linear = np.array([[c, -s], [s, c]])
        matrix = np.column_stack([linear, foot - linear @ (width / 2 + x, high)])
        canvas.sprite(self._skyline, matrix, BACKDROP_REGION)


def _clouded_sky(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Image:
    """A (2 H, 2 W, 3) picture."""
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
    return cv2.resize(small, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)


def _skyline(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Sprite, bool]:
    """Trees or houses at the far end of the world, from the horizon up; whether it is trees."""
    height, width = size
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
    return Sprite(paint(np.zeros_like(mask), [tone], grain), mask, mask), trees
