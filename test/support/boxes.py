"""Drawn scenes of boxes with exact depth, for tests that know where everything is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.types import TrackedObject, TrackState

WIDTH, HEIGHT = 640, 480
CAMERA = PinholeCamera(580.0, 575.0, 315.0, 242.0)


class Box(NamedTuple):
    """Centre and size along the axes of the world, in metres."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]


class Scene(NamedTuple):
    """depth: (H, W) float32 metres, inf where there is nothing. ids: (H, W) uint8, the number of
    the box that is seen, from 1 on, 0 for none."""

    depth: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint8]


def look_from(position: Sequence[float], target: Sequence[float]) -> npt.NDArray[np.float64]:
    """(4, 4) from the camera (z ahead, y down) to a world whose z is up."""
    ahead = np.subtract(target, position)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(ahead, right), ahead, position], axis=1)
    return pose


def draw(boxes: Sequence[Box], pose: npt.NDArray[np.float64] | None = None) -> Scene:
    """What CAMERA sees of boxes; pose: (4, 4) from the camera to their world, None: the same."""
    pose = np.eye(4) if pose is None else pose
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ pose[:3, :3].T  # a metre of depth long
    depth, ids = np.full((HEIGHT, WIDTH), np.inf), np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, box in enumerate(boxes, 1):
        ends = np.stack([np.array(box.center) + s * np.array(box.size) / 2 for s in (-1, 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            hits = (ends[:, None, None] - pose[:3, 3]) / rays
        enter, leave = np.nanmax(hits.min(0), axis=-1), np.nanmin(hits.max(0), axis=-1)
        seen = (enter <= leave) & (enter > 0) & (enter < depth)
        depth[seen], ids[seen] = enter[seen], number
    return Scene(depth.astype(np.float32), ids)


def tracked(ids: npt.NDArray[np.integer], number: int) -> TrackedObject:
    """The pixels of one id as an object, without a place in the image where there are none."""
    mask = ids == number
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return TrackedObject(
        track_id=number,
        state=TrackState.CONFIRMED,
        class_id=3,
        class_name="Road",
        class_score=0.75,
        class_probabilities=np.array([0.25, 0.75], np.float32),
        predicted_iou=0.9,
        visibility=1.0,
        box=(x, y, width, height),
        area=int(mask.sum()),
        centroid=(0.0, 0.0),
        age=3,
        frames_since_seen=0,
        mask=mask[y : y + height, x : x + width],
    )
