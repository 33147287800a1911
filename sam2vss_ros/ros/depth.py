"""The depth camera's topics, listened to while somebody wants what is made of depth."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.io.stamps import header_stamp_ns
from sam2vss_ros.ros.following import FollowingSubscription

MOST_KEPT, MOST_BYTES = 32, 1 << 29
"""Depth images that may wait for their image, where only the newest is taken, and bytes of all."""

DepthMessage: TypeAlias = Image | CompressedImage


class DepthTopic:
    """Subscribes to `depth` (or `depth/compressedDepth`) and `depth/camera_info` of `node`, those
    of a named camera with its `prefix` before them, and keeps the newest depth by its stamp.

    `follow` is to be called regularly, by the executor's thread. came: called with every message.
    `camera_info` is the newest calibration, None before the first.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, prefix: str, came: Callable[[], None]
    ) -> None:
        self._node = node
        self._came = came
        self._most = config.queue_size if config.overload == "all" else MOST_KEPT
        self._bytes = 0  # of what is kept
        self._kept: OrderedDict[int, DepthMessage] = OrderedDict()
        self._lock = threading.Lock()
        self.camera_info: CameraInfo | None = None
        topic = node.resolve_topic_name(f"{prefix}depth")
        compressed = config.depth_transport == "compressedDepth"
        self._depths = FollowingSubscription(
            node,
            CompressedImage if compressed else Image,
            f"{topic}/compressedDepth" if compressed else topic,
            self._take,
            config.input_reliability,
            self._most,
        )
        self._infos = node.create_subscription(
            CameraInfo, f"{prefix}depth/camera_info", self._take_info, qos_profile_sensor_data
        )
        self.follow = self._depths.follow

    def settled(self, stamp: int) -> bool:
        """Whether the depth next to this stamp in nanoseconds has come: one that is not older."""
        with self._lock:
            return any(other >= stamp for other in self._kept)

    def nearest(self, stamp: int, slop: float) -> DepthMessage | None:
        """The depth whose stamp is nearest, within `slop` seconds; None where there is none."""
        with self._lock:
            near = min(self._kept, key=lambda other: abs(other - stamp), default=None)
            if near is None or abs(near - stamp) > slop * 1e9:
                return None
            return self._kept[near]

    def reason(self) -> str:
        """Why depth may be missing."""
        with self._lock:
            newest = next(reversed(self._kept), None)
        if newest is None:
            return self._depths.silence()
        return f"the last on {self._depths.topic} was taken at {newest} ns"

    def destroy(self) -> None:
        """End the subscriptions."""
        self._depths.destroy()
        self._node.destroy_subscription(self._infos)

    def _take(self, message: DepthMessage) -> None:
        stamp = header_stamp_ns(message)
        with self._lock:
            if stamp in self._kept:  # of an earlier round of a bag that loops
                self._drop(stamp)
            self._kept[stamp] = message
            self._bytes += len(message.data)
            while len(self._kept) > 1 and (
                len(self._kept) > self._most or self._bytes > MOST_BYTES
            ):
                self._drop(next(iter(self._kept)))
        self._came()

    def _drop(self, stamp: int) -> None:
        self._bytes -= len(self._kept.pop(stamp).data)

    def _take_info(self, message: CameraInfo) -> None:
        self.camera_info = message
