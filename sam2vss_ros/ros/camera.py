"""The camera's topics: the image subscription that follows its publisher, and the calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.ros.following import FollowingSubscription

SAME_AGAIN = 60.0
"""Seconds within which one silence is not logged again."""


class Camera:
    """Subscribes to `image` (or `image/compressed`) and `camera_info` of `node`, those of a named
    camera with its `prefix` before them, as in `front/image`.

    Every image goes to `on_image`, in the executor's thread. `watch` is to be called regularly.
    `camera_info` is the newest calibration, None before the first. `crowd`: see
    FollowingSubscription.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        prefix: str,
        on_image: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node = node
        self._on_image = on_image
        kind = CompressedImage if config.image_transport == "compressed" else Image
        self.topic = node.resolve_topic_name(f"{prefix}image")
        if kind is CompressedImage:
            # As image_transport has it: the transport's name goes behind the remapped topic.
            self.topic = f"{self.topic}/compressed"
        self.camera_info: CameraInfo | None = None
        self.silence = ""
        self._told = ("", -math.inf)  # the last warning, and when
        self._complained = False
        self._last_image = time.monotonic()
        depth = config.queue_size if config.overload == "all" else 1
        self._images = FollowingSubscription(
            node, kind, self.topic, self._take_image, config.input_reliability, depth
        )
        self._infos = node.create_subscription(
            CameraInfo, f"{prefix}camera_info", self._take_info, qos_profile_sensor_data
        )

    def watch(self, limit: float, expecting: bool) -> None:
        """Follow the publishers; warn after `limit` seconds without an image.

        `silence` is the text of that warning for as long as no image comes, else empty. It is not
        logged again within SAME_AGAIN seconds: a camera may be slower than `limit`. Nothing is said
        while no image is expected.
        """
        now = time.monotonic()
        self._images.follow()
        if not expecting or now - self._last_image < limit:
            return
        reason = self._images.silence()
        silence = f"no image for {limit:g} s: {reason}"
        told, when = self._told
        if silence != self.silence and (silence != told or now - when > SAME_AGAIN):
            self._complained = True
            self._told = silence, now
            self._node.get_logger().warning(silence)
        self.silence = silence

    @property
    def crowd(self) -> str:
        """Who sends images, where they are several."""
        return self._images.crowd

    def expect_images(self) -> None:
        """Begin anew to wait for an image."""
        self._last_image = time.monotonic()
        self.silence = ""

    def destroy(self) -> None:
        """End the subscriptions."""
        self._images.destroy()
        self._node.destroy_subscription(self._infos)

    def _take_image(self, message: Image | CompressedImage) -> None:
        if self._complained:
            self._complained = False
            self._node.get_logger().info(f"images come on {self.topic}")
        self.expect_images()
        self._on_image(message)

    def _take_info(self, message: CameraInfo) -> None:
        self.camera_info = message
