"""Transforms between frames at the time of an image, where tf2 is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform as TransformMessage
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time as RclpyTime

from sam2vss_ros.errors import one_line
from sam2vss_ros.geometry.objects import Transform

try:
    from tf2_ros import Buffer, TransformException, TransformListener
except ImportError:  # not installed: positions stay in the camera's frame
    Buffer = None


class NoTransformError(ValueError):
    """Nobody has told how two frames lie to each other at a time; the message says why."""


class Frames:
    """Listens to /tf and /tf_static of `node`, whose executor runs in another thread."""

    def __init__(self, node: LifecycleNode) -> None:
        self._buffer = Buffer()
        self._listener: Any = TransformListener(self._buffer, node)

    def between(self, target: str, source: str, stamp: Time, patience: float) -> Transform:
        """Brings points of the frame `source` to `target`, both at this time; waits for it
        `patience` seconds at most. Raises NoTransformError."""
        try:
            found = self._buffer.lookup_transform(
                target, source, RclpyTime.from_msg(stamp), Duration(seconds=patience)
            )
        except TransformException as error:
            raise NoTransformError(one_line(error)) from error
        return matrix_of(found.transform)

    def destroy(self) -> None:
        """End the subscriptions."""
        self._listener.unregister()


def listen_to_frames(node: LifecycleNode) -> Frames | None:
    """None where tf2 is not installed."""
    return None if Buffer is None else Frames(node)


def matrix_of(transform: TransformMessage) -> Transform:
    """(4, 4) of a transform's translation and quaternion, which need not have unit length.

    Raises NoTransformError for a quaternion of length 0 and for what is not finite.
    """
    q, t = transform.rotation, transform.translation
    x, y, z, w = q.x, q.y, q.z, q.w
    length = np.linalg.norm([x, y, z, w])
    if not (0 < length < np.inf) or not np.isfinite([t.x, t.y, t.z]).all():
        raise NoTransformError("the transform's numbers are none of a rotation and a translation")
    x, y, z, w = np.array([x, y, z, w]) / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = t.x, t.y, t.z
    return matrix
