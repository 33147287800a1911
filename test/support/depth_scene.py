"""The drawn street of the harness with a car two metres away, as a depth camera sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from harness import HEIGHT, WIDTH, Harness, header
from sam2vss_ros.types import Prompt

K = [150.0, 0.0, 79.5, 0.0, 150.0, 59.5, 0.0, 0.0, 1.0]
CAR = (slice(65, 95), slice(33, 73))  # rows and columns of the car in the picture
CAR_METRES, GROUND_METRES = 2.0, 6.0
TRACK_ID = 7


def metres() -> np.ndarray:
    """(HEIGHT, WIDTH) float32; nothing is measured in the sky."""
    depth = np.full((HEIGHT, WIDTH), GROUND_METRES, np.float32)
    depth[: HEIGHT // 2] = np.inf
    depth[CAR] = CAR_METRES
    return depth


def follow_car(bench: Harness) -> None:
    """Show the active node the car, as its track TRACK_ID from the next image on."""
    pipeline = bench.node._channels[0].pipeline
    assert pipeline is not None
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[CAR] = True
    pipeline.reserve_ids(TRACK_ID)
    pipeline.add_prompt(Prompt(mask=mask), TRACK_ID)


class DepthScene:
    """A depth camera before a node that is about to be active, which follows the car alone."""

    def __init__(self, bench: Harness) -> None:
        self._bench = bench
        node = bench.ros.node("depth_camera")
        self._depths = node.create_publisher(Image, "depth", 10)
        self._infos = node.create_publisher(CameraInfo, "depth/camera_info", 10)

    def ready(self) -> DepthScene:
        """Show the node the car, and wait until it hears the depth camera."""
        bench = self._bench.active()
        follow_car(bench)
        bench.ros.wait_until(
            lambda: all(p.get_subscription_count() for p in (self._depths, self._infos)),
            "subscribers of depth",
        )
        self._infos.publish(CameraInfo(header=header(0), width=WIDTH, height=HEIGHT, k=K))
        bench.ros.wait_until(self._knows_calibration, "the depth's calibration")
        return self

    def _knows_calibration(self) -> bool:
        topic: Any = self._bench.node._channels[0].space._topic
        return topic is not None and topic.camera_info is not None

    def send(self, milliseconds: int) -> None:
        """An image and its depth, taken at this time."""
        self._bench.send(milliseconds)
        pixels = metres()
        message = Image(header=header(milliseconds), height=HEIGHT, width=WIDTH, encoding="32FC1")
        message.step = WIDTH * 4
        message.data = pixels.tobytes()
        self._depths.publish(message)
