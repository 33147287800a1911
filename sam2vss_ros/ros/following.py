"""A subscription that follows its publishers, and can say why it hears nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from sam2vss_ros.ros.qos import crowd, explain_silence, input_qos

TYPE_NAMES = {Image: "sensor_msgs/msg/Image", CompressedImage: "sensor_msgs/msg/CompressedImage"}


class FollowingSubscription:
    """Subscribes to `topic` of `node` for images of `kind`; each goes to `take`, in the executor's
    thread.

    reliability: reliable, best_effort or auto, that of the publishers. depth: messages that may
    wait. `follow` is to be called regularly. crowd: who publishes, where they are several, in
    words; else empty.
    """

    def __init__(
        self,
        node: LifecycleNode,
        kind: type[Image] | type[CompressedImage],
        topic: str,
        take: Callable[[Any], None],
        reliability: str,
        depth: int,
    ) -> None:
        self.topic = topic
        self._node = node
        self._kind = kind
        self._take = take
        self._reliability = reliability
        self._depth = depth
        self.crowd = ""
        self._crowd_told = False
        self._qos = self._wanted_qos()
        self._subscription = self._subscribe()

    def follow(self) -> None:
        """Subscribe anew where the publishers' reliability is not ours, and count them."""
        publishers = self._publishers()
        before, self.crowd = self.crowd, crowd(self.topic, publishers)
        if self.crowd and self.crowd == before and not self._crowd_told:  # all names are there
            self._crowd_told = True
            self._node.get_logger().warning(f"{self.crowd} (logged once): which one is meant?")
        wanted = self._wanted_qos()
        if publishers and wanted.reliability != self._qos.reliability:
            self._node.get_logger().info(f"{self.topic}: now {wanted.reliability.name.lower()}")
            self.destroy()
            self._qos = wanted
            self._subscription = self._subscribe()

    def silence(self) -> str:
        """Why no message may come."""
        own = self._node.get_fully_qualified_name() + "/"
        others = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if TYPE_NAMES[self._kind] in types and not name.startswith(own)
        ]
        return explain_silence(
            self.topic, TYPE_NAMES[self._kind], self._qos, self._publishers(), others
        )

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        return self._node.create_subscription(self._kind, self.topic, self._take, self._qos)

    def _wanted_qos(self) -> QoSProfile:
        return input_qos(self._reliability, self._depth, self._publishers())

    def _publishers(self) -> list:
        return self._node.get_publishers_info_by_topic(self.topic)
