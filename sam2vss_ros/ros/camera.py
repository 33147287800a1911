"""The camera's topics: the image subscription that follows its publisher, and the calibration."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sam2vss_ros.ros.parameters import NodeConfig
from sam2vss_ros.ros.qos import explain_silence, input_qos

TYPE_NAMES = {Image: "sensor_msgs/msg/Image", CompressedImage: "sensor_msgs/msg/CompressedImage"}


class Camera:
    """Subscribes to `image` (or `image/compressed`) and `camera_info` of `node`.

    Every image goes to `on_image`, in the executor's thread. `watch` is to be called regularly.
    `camera_info` is the newest calibration, None before the first.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        on_image: Callable[[Image | CompressedImage], None],
    ) -> None:
        self._node = node
        self._reliability = config.input_reliability
        self._depth = config.queue_size if config.overload == "all" else 1
        self._on_image = on_image
        self._type = CompressedImage if config.image_transport == "compressed" else Image
        self.topic = node.resolve_topic_name("image")
        if self._type is CompressedImage:
            # As image_transport has it: the transport's name goes behind the remapped topic.
            self.topic = f"{self.topic}/compressed"
        self.camera_info: CameraInfo | None = None
        self.silence = ""
        self._last_image = time.monotonic()
        self._qos = self._wanted_qos()
        self._images = self._subscribe()
        self._infos = node.create_subscription(
            CameraInfo, "camera_info", self._take_info, qos_profile_sensor_data
        )

    def watch(self, limit: float, expecting: bool) -> None:
        """Follow the publisher's reliability; warn, once, after `limit` seconds without an image.

        `silence` is the text of that warning for as long as no image comes, else empty. Nothing is
        said while no image is expected.
        """
        wanted = self._wanted_qos()
        if self._publishers() and wanted.reliability != self._qos.reliability:
            self._node.get_logger().info(f"{self.topic}: now {wanted.reliability.name.lower()}")
            self._node.destroy_subscription(self._images)
            self._qos = wanted
            self._images = self._subscribe()
        if not expecting or time.monotonic() - self._last_image < limit:
            return
        reason = explain_silence(
            self.topic, TYPE_NAMES[self._type], self._qos, self._publishers(), self._image_topics()
        )
        silence = f"no image for {limit:g} s: {reason}"
        if silence != self.silence:
            self._node.get_logger().warning(silence)
        self.silence = silence

    def expect_images(self) -> None:
        """Begin anew to wait for an image."""
        self._last_image = time.monotonic()
        self.silence = ""

    def destroy(self) -> None:
        """End the subscriptions."""
        self._node.destroy_subscription(self._images)
        self._node.destroy_subscription(self._infos)

    def _subscribe(self) -> Subscription:
        return self._node.create_subscription(self._type, self.topic, self._take_image, self._qos)

    def _take_image(self, message: Image | CompressedImage) -> None:
        if self.silence:
            self._node.get_logger().info(f"images come on {self.topic}")
        self.expect_images()
        self._on_image(message)

    def _take_info(self, message: CameraInfo) -> None:
        self.camera_info = message

    def _wanted_qos(self) -> QoSProfile:
        return input_qos(self._reliability, self._depth, self._publishers())

    def _publishers(self) -> list:
        return self._node.get_publishers_info_by_topic(self.topic)

    def _image_topics(self) -> list[str]:
        topics = self._node.get_topic_names_and_types()
        own = self._node.get_fully_qualified_name() + "/"
        return [
            name
            for name, types in topics
            if TYPE_NAMES[self._type] in types and not name.startswith(own)
        ]
