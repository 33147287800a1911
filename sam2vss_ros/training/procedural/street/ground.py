"""The ground of a street: road, kerbs, markings, pavements and what lies beyond."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2vss_ros.training.procedural.classes import PAVEMENT, ROAD, TREE
from sam2vss_ros.training.procedural.paint import RELIEF_UNIT, Canvas, Image, colour, relief
from sam2vss_ros.training.procedural.street.regions import (
    LEFT_PAVEMENT,
    RIGHT_PAVEMENT,
    ROAD_REGION,
    VERGE,
)
from sam2vss_ros.training.procedural.street.style import Style
from sam2vss_ros.training.procedural.street.view import View, fill, fixed_point

_TILE = 40.0  # metres after which the texture repeats
_TEXELS = 8  # of the texture per metre
_HALF_WIDTH = 24.0  # metres of texture on each side


class Ground:
    """Colours and texture of the ground. `classes` has the class of each of its regions."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self._style = style
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
        self.classes = {
            ROAD_REGION: ROAD,
            LEFT_PAVEMENT: PAVEMENT,
            RIGHT_PAVEMENT: PAVEMENT,
            VERGE: TREE if grass else PAVEMENT,
        }
        self._dash = (rng.uniform(1.5, 4.0), rng.uniform(3.0, 9.0), rng.uniform(0.08, 0.16))
        self._edge_line = rng.random() < 0.5
        wide, long = int(2 * _HALF_WIDTH * _TEXELS), int(_TILE * _TEXELS)
        road = relief(rng, long, wide, rng.uniform(0.1, 0.4), kinds=(0, 1, 1, 1, 2))
        other = relief(rng, long, wide, rng.uniform(0.2, 0.6), kinds=(1, 5, 5, 6))
        kerb = int((_HALF_WIDTH - style.road_half) * _TEXELS)
        other[:, kerb : wide - kerb] = road[:, kerb : wide - kerb]
        repeats = 1 + math.ceil(style.sight / _TILE)
        self._relief = np.tile(other, (repeats, 1))

    def draw(self, canvas: Canvas, view: View, shadows: Image) -> None:
        """Paint it up to the horizon; shadows: (H, W) 255 in the light, less in the shadow."""
        style = self._style
        height, width = view.size
        top = max(0, int(view.horizon()[:, 1].min()) - 1)
        if top >= height:
            return
        canvas.rgb[top:] = self._verge_colour
        canvas.ids[top:] = VERGE
        z = view.position[2]
        z0, z1 = z - 8.0, z + 400.0
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
        first = math.floor(z / period)
        for i in range(first, first + int(50 / period)):
            start = max(i * period, z0)
            if i * period + dash > start:
                strip(-half, half, self._marking_colour, 0, start, i * period + dash)

        # Texture and shadows darken the colours.
        origin = math.floor(z / _TILE) * _TILE
        m = view.matrix
        step = 1 / _TEXELS
        to_image = np.column_stack(
            [m[:, 0] * step, m[:, 2] * step, m[:, 3] - m[:, 0] * _HALF_WIDTH + m[:, 2] * origin]
        )
        to_image = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1]]) @ to_image
        size = (width, height - top)
        tone = cv2.warpPerspective(self._relief, to_image, size, borderMode=cv2.BORDER_REPLICATE)
        tone = cv2.multiply(tone, shadows[top:], scale=1 / 255)
        tone = cv2.merge((tone, tone, tone))
        canvas.rgb[top:] = cv2.multiply(canvas.rgb[top:], tone, scale=1 / RELIEF_UNIT)
