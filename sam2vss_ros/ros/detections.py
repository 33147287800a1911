"""The objects in vision_msgs' words, as 2-D detections, where that package is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from std_msgs.msg import Header

from sam2vss_ros.types import TrackedObject

try:
    from vision_msgs.msg import (
        BoundingBox2D,
        Detection2D,
        Detection2DArray,
        ObjectHypothesisWithPose,
    )
except ImportError:  # not installed: ~/objects says the same and more
    Detection2DArray = None

UNKNOWN = -1.0
"""The first entry of a covariance of which nothing is known, as ROS has it."""


def detections_message(objects: Iterable[TrackedObject], header: Header) -> Any:
    """A Detection2DArray of those that are seen now, each with its class's name and track id."""
    seen = [detection_message(tracked, header) for tracked in objects if tracked.area]
    return Detection2DArray(header=header, detections=seen)


def detection_message(tracked: TrackedObject, header: Header) -> Any:
    """One object. Pixels have their whole area: a box from column 0 to 9 has its centre at 5."""
    x, y, width, height = tracked.box
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = tracked.class_name
    result.hypothesis.score = float(tracked.class_score)
    result.pose.covariance[0] = UNKNOWN
    box = BoundingBox2D(size_x=float(width), size_y=float(height))
    box.center.position.x, box.center.position.y = x + width / 2, y + height / 2
    return Detection2D(header=header, results=[result], bbox=box, id=str(tracked.track_id))
