"""The camera of a street scene: from metres on the street to pixels.

World axes: x to the right, y up, z along the street; the ground is y = 0. Pixels count from the
top left corner, x to the right and y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sam2vss_ros.training.procedural.paint import Canvas, Image, Sprite

NEAR = 0.4  # metres in front of the camera at which everything is cut off
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class View:
    """A pinhole camera. position (x, y, z) in metres; yaw to the right, pitch up and roll
    clockwise in radians; focal length and size (height, width) in pixels."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    focal: float
    size: tuple[int, int]

    @cached_property
    def rotation(self) -> np.ndarray:
        """(3, 3); its rows are the camera's right, down and forward in world axes."""
        sy, cy = math.sin(self.yaw), math.cos(self.yaw)
        sp, cp = math.sin(self.pitch), math.cos(self.pitch)
        sr, cr = math.sin(self.roll), math.cos(self.roll)
        right = np.array([cy, 0.0, -sy])
        down = np.array([sy * sp, -cp, cy * sp])
        forward = np.array([sy * cp, sp, cy * cp])
        return np.stack([cr * right + sr * down, cr * down - sr * right, forward])

    @cached_property
    def matrix(self) -> np.ndarray:
        """(3, 4) projection of homogeneous world points to homogeneous pixels."""
        height, width = self.size
        k = np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]])
        r = self.rotation
        return k @ np.column_stack([r, -r @ np.array(self.position)])

    @cached_property
    def _rows(self) -> list[list[float]]:
        return self.matrix.tolist()

    def project(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """One world point as homogeneous pixels; the last is its depth in metres."""
        a, b, c = self._rows
        return (
            a[0] * x + a[1] * y + a[2] * z + a[3],
            b[0] * x + b[1] * y + b[2] * z + b[3],
            c[0] * x + c[1] * y + c[2] * z + c[3],
        )

    def sees(self, x: float, y: float, z: float, radius: float) -> bool:
        """Whether something within `radius` metres of a point may be a pixel or more on screen."""
        u, _, depth = self.project(x, y, z)
        reach = self.focal * radius
        return depth > NEAR and reach > depth / 2 and -reach < u < self.size[1] * depth + reach

    def homogeneous(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) world points to (N, 3) pixels times depth, and the depth."""
        return points @ self.matrix[:, :3].T + self.matrix[:, 3]

    def polygon(self, points: np.ndarray) -> np.ndarray | None:
        """(N, 3) corners to (M, 2) pixels, cut at the near plane; None when all is behind."""
        return cut(self.homogeneous(points))

    def horizon(self) -> np.ndarray:
        """(2, 2) pixels where the horizon crosses the left and the right edge of the picture."""
        width = self.size[1]
        middle = self.size[0] / 2 + self.focal * math.tan(self.pitch) / math.cos(self.roll)
        rise = width / 2 * math.tan(self.roll)
        return np.array([[0, middle + rise], [width, middle - rise]])


def cut(points: np.ndarray) -> np.ndarray | None:
    """A polygon of (N, 3) homogeneous pixels, cut at the near plane, as (M, 2) pixels."""
    depths = points[:, 2].tolist()
    if min(depths) >= NEAR:
        return points[:, :2] / points[:, 2:]
    if max(depths) < NEAR:
        return None
    kept = []
    for i, depth in enumerate(depths):
        if depth >= NEAR:
            kept.append(points[i])
        before = depths[i - 1]
        if (depth >= NEAR) != (before >= NEAR):
            crossing = points[i - 1] + (points[i] - points[i - 1]) * (NEAR - before) / (
                depth - before
            )
            kept.insert(len(kept) - (depth >= NEAR), crossing)
    solid = np.array(kept)
    return solid[:, :2] / solid[:, 2:]


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixels as the fixed-point integers that `fill` and OpenCV's shift argument take."""
    bounded = np.minimum(np.maximum(pixels, -20000), 20000)
    return np.rint(bounded * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def fill(canvas: Canvas, polygon: np.ndarray, rgb: tuple[float, ...], region: int = 0) -> None:
    """Fill a fixed-point polygon with a colour; region 0 leaves the region ids as they are."""
    cv2.fillPoly(canvas.rgb, [polygon], rgb, cv2.LINE_AA, _SUBPIXEL_BITS)
    if region:
        cv2.fillPoly(canvas.ids, [polygon], region, cv2.LINE_8, _SUBPIXEL_BITS)


def fill_mask(mask: Image, polygon: np.ndarray, value: int) -> None:
    cv2.fillPoly(mask, [polygon], value, cv2.LINE_8, _SUBPIXEL_BITS)


def upright(
    canvas: Canvas, view: View, sprite: Sprite, foot: tuple[float, float, float], height: float,
    region: int, flip: bool = False,
) -> None:  # fmt: skip
    """Stand a sprite of `height` metres at `foot`, facing the camera."""
    h, w = sprite.alpha.shape
    u, v, depth = view.project(*foot)
    if depth < NEAR:
        return
    scale = height / h * view.focal / depth
    side = -scale if flip else scale
    c, s = math.cos(view.roll), -math.sin(view.roll)
    x = u / depth - side * c * w / 2 + scale * s * h
    y = v / depth - side * s * w / 2 - scale * c * h
    matrix = np.array([[side * c, -scale * s, x], [side * s, scale * c, y]])
    canvas.sprite(sprite, matrix, region)


def plane(
    canvas: Canvas, view: View, sprite: Sprite, corner: np.ndarray, along: np.ndarray,
    up: np.ndarray, region: int,
) -> None:  # fmt: skip
    """Paint a sprite on a parallelogram: `corner` is its lower left, `along` its lower edge."""
    corners = np.array([corner, corner + along, corner + along + up, corner + up])
    flat = view.homogeneous(corners)
    outline = cut(flat)
    if outline is None:
        return
    height, width = view.size
    (x_min, y_min), (x_max, y_max) = outline.min(0).tolist(), outline.max(0).tolist()
    x0, x1 = max(0, math.floor(x_min)), min(width, math.ceil(x_max) + 1)
    y0, y1 = max(0, math.floor(y_min)), min(height, math.ceil(y_max) + 1)
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    h, w = sprite.alpha.shape
    shrink = math.sqrt((x_max - x_min + 1) * (y_max - y_min + 1) / (h * w))
    small = sprite.at_scale(shrink)
    h, w = small.alpha.shape
    m = view.matrix
    to_image = np.column_stack(
        [m[:, :3] @ along / w, -(m[:, :3] @ up) / h, m[:, :3] @ (corner + up) + m[:, 3]]
    )
    to_image = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ to_image
    if abs(np.linalg.det(to_image)) < 1e-12:  # seen edge on
        return
    size = (x1 - x0, y1 - y0)
    alpha = cv2.warpPerspective(small.alpha, to_image, size)
    rgb = cv2.warpPerspective(small.rgb, to_image, size, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpPerspective(small.mask, to_image, size) if small.see_through else alpha
    if flat[:, 2].min() < NEAR:  # the part behind the camera would show up mirrored
        front = np.zeros_like(mask)
        cv2.fillPoly(front, [np.rint(outline - (x0, y0)).astype(np.int32)], 255)
        alpha, mask = cv2.min(alpha, front), cv2.min(mask, front)
    if small.see_through:
        canvas.blend(x0, y0, rgb, alpha, mask, region)
    else:
        inside = cv2.compare(mask, 127, cv2.CMP_GT)
        cv2.copyTo(rgb, inside, canvas.rgb[y0:y1, x0:x1])
        canvas.ids[y0:y1, x0:x1][inside > 0] = region
