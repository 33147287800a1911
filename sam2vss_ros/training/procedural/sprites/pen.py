"""The pen that the designs of the sprites are drawn with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2vss_ros.training.procedural.paint import Image


@dataclass(frozen=True)
class Design:
    """parts (H, W) uint8; alpha and mask (H, W) 0..255, see Sprite."""

    parts: Image
    alpha: Image
    mask: Image


class Pen:
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
