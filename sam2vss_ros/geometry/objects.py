"""Where tracked objects are in space: a box and a centroid for each, by its mask and the depth.

Depth bleeds at the borders of objects, and masks are not exact. So the inner part of a mask says at
which depths an object is: those that no gap parts from its median. All pixels of the mask at those
depths are its points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.depth import Depth
from sam2vss_ros.types import TrackedObject

SHRINK = 0.1
"""Of its equivalent radius, what a mask loses all around."""

GAP, RELATIVE_GAP = 0.1, 0.03
"""Metres, and share of the depth: a larger step in depth parts an object from what lies behind."""

LEAST_POINTS, LEAST_VALID = 20, 0.3
"""Points, and share of the pixels that have depth, below which an object has no place in space."""

PERCENTILES = 0.02, 0.98
"""Of the points' coordinates, where the box begins and ends."""

MOST_PIXELS = 4096
"""Pixels of an object that are looked at, on an even grid; more do not make it more exact."""

Transform = npt.NDArray[np.float64]
"""(4, 4): a rotation and a translation in metres, from the camera to another frame."""


@dataclass(frozen=True)
class Placement:
    """Where an object is, in metres, in the frame that its points were brought to.

    center, size: (3,) of the box along that frame's axes, from the 2nd to the 98th percentile of
    its points. centroid: (3,), their mean, and covariance: (3, 3) of that mean. points: how many
    there are.
    """

    center: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    centroid: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]
    points: int


@dataclass(frozen=True)
class Object3D:
    """A tracked object in space; `placement` is None where depth does not tell. points: those that
    were found on it. valid_depth: share of its pixels that have depth, from 0 to 1."""

    tracked: TrackedObject
    placement: Placement | None
    points: int
    valid_depth: float


def place_objects(
    objects: Sequence[TrackedObject],
    depth: Depth,
    camera: PinholeCamera,
    transform: Transform | None = None,
) -> list[Object3D]:
    """Every object in its order, those that depth does not place among them.

    depth has the size of the image that the masks belong to. transform: brings the points to
    another frame before boxes are made; None: they stay in the camera's.
    """
    return [place(tracked, depth, camera, transform) for tracked in objects]


def place(
    tracked: TrackedObject,
    depth: Depth,
    camera: PinholeCamera,
    transform: Transform | None = None,
) -> Object3D:
    """One object, as `place_objects`."""
    x, y = tracked.box[:2]
    step = math.ceil(math.sqrt(max(1, np.count_nonzero(tracked.mask)) / MOST_PIXELS))
    first = step // 2
    mask = np.ascontiguousarray(tracked.mask[first::step, first::step])
    if not mask.any():
        return Object3D(tracked, None, 0, 0.0)
    y, x = y + first, x + first
    z = depth[y::step, x::step][: mask.shape[0], : mask.shape[1]]
    core = z[shrunk(mask, _open_sides(tracked.box, depth.shape))]
    measured = core[~np.isnan(core)]
    valid = len(measured) / len(core)
    if valid < LEAST_VALID:
        return Object3D(tracked, None, len(measured), valid)
    near, far = main_cluster(measured)
    # The border counts where it goes on as the core does.
    more = SHRINK * (far - near)
    rows, columns = np.nonzero(mask & (z >= near - more) & (z <= far + more))
    count = len(rows)
    if count < LEAST_POINTS:
        return Object3D(tracked, None, count, valid)
    ray_x, ray_y = camera.rays(*depth.shape)
    z, rows, columns = z[rows, columns], y + step * rows, x + step * columns
    points = np.stack([ray_x[columns] * z, ray_y[rows] * z, z])
    if transform is not None:
        points = transform[:3, :3] @ points + transform[:3, 3:]
    return Object3D(tracked, _placement(points), count, valid)


def shrunk(
    mask: npt.NDArray[np.bool_], open_sides: tuple[bool, bool, bool, bool] = (True,) * 4
) -> npt.NDArray[np.bool_]:
    """(H, W) bool, the mask without a border of SHRINK times its equivalent radius.

    What is thinner than that keeps the inner half of its thickness. open_sides: whether the image
    goes on above, below, left and right of the mask; where it ends, no border is taken off.
    """
    sides = [int(side) for side in open_sides]
    top, bottom, left, right = sides
    padded = cv2.copyMakeBorder(mask.view(np.uint8), *sides, cv2.BORDER_CONSTANT, value=0)
    if padded.all():
        return mask
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3)
    inside = inside[top : top + mask.shape[0], left : left + mask.shape[1]]
    border = SHRINK * np.sqrt(np.count_nonzero(mask) / np.pi)
    return np.asarray(mask & (inside > min(border, float(inside.max()) / 2)))


def main_cluster(depths: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The least and the largest of those depths, in metres, that no gap parts from the median."""
    ordered = np.sort(depths)
    gaps = np.diff(ordered) > np.maximum(GAP, RELATIVE_GAP * ordered[:-1])
    cuts = np.flatnonzero(gaps) + 1
    place = np.searchsorted(cuts, len(ordered) // 2, side="right")
    begin = cuts[place - 1] if place else 0
    end = cuts[place] if place < len(cuts) else len(ordered)
    return float(ordered[begin]), float(ordered[end - 1])


def _open_sides(
    box: tuple[int, int, int, int], shape: tuple[int, ...]
) -> tuple[bool, bool, bool, bool]:
    """Whether the image goes on above, below, left and right of a box."""
    x, y, width, height = box
    return y > 0, y + height < shape[0], x > 0, x + width < shape[1]


def _placement(points: npt.NDArray[np.floating]) -> Placement:
    """Of (3, N) points."""
    count = points.shape[1]
    first, last = (round(share * (count - 1)) for share in PERCENTILES)
    ordered = np.partition(points, (first, last), axis=1).astype(np.float64)
    low, high = ordered[:, first], ordered[:, last]
    centroid = points.mean(axis=1, dtype=np.float64)
    spread = points - centroid[:, None]
    return Placement(
        center=(low + high) / 2,
        size=high - low,
        centroid=centroid,
        covariance=spread @ spread.T / ((count - 1) * count),
        points=count,
    )
