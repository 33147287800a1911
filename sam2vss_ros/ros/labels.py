"""Label images of another node, each waited for by the image that has its stamp."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.io.stamps import header_stamp_ns
from sam2vss_ros.ros.following import FollowingSubscription
from sam2vss_ros.ros.mailbox import MOST_BYTES

MOST_WAITING = 16
"""Label images that may wait for their image where only the newest image is taken."""


class LabelTopic:
    """Subscribes to a topic of `node` and keeps the newest label images by their stamp.

    `follow` is to be called regularly, by the executor's thread. came: called with every message.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, topic: str, came: Callable[[], None]
    ) -> None:
        self._most = config.queue_size if config.overload == "all" else MOST_WAITING
        self._kept: OrderedDict[int, tuple[Image, float]] = OrderedDict()  # with its arrival
        self._lock = threading.Lock()
        self._any = False
        self._came = came
        self._subscription = FollowingSubscription(
            node,
            Image,
            node.resolve_topic_name(topic),
            self._take,
            config.input_reliability,
            self._most,
        )
        self.follow = self._subscription.follow

    @property
    def crowd(self) -> str:
        """Who sends label images, where they are several."""
        return self._subscription.crowd

    def settled(self, stamp: int, since: float) -> bool:
        """Whether the label image with this stamp in nanoseconds is there, or will not come.

        Once one with a later stamp has come after its image, it is not waited for any longer.
        since: when that image came, in monotonic seconds.
        """
        with self._lock:
            return stamp in self._kept or any(
                other > stamp and came > since for other, (_, came) in self._kept.items()
            )

    def take(self, stamp: int) -> Image | None:
        """The label image with this stamp in nanoseconds; None where it has not come."""
        with self._lock:
            found = self._kept.pop(stamp, None)
        return None if found is None else found[0]

    def reason(self) -> str:
        """Why labels may be missing."""
        if self._any:
            return (
                f"there are label images on {self._subscription.topic}, but none with its stamp: "
                "is the network slower than the camera, or does it not copy the image's header?"
            )
        return self._subscription.silence()

    def destroy(self) -> None:
        """End the subscription."""
        self._subscription.destroy()

    def _take(self, message: Image) -> None:
        stamp = header_stamp_ns(message)
        with self._lock:
            self._any = True
            self._kept.pop(stamp, None)  # of an earlier round of a bag that loops
            self._kept[stamp] = message, time.monotonic()
            while len(self._kept) > 1 and (len(self._kept) > self._most or self._are_too_large()):
                self._kept.popitem(last=False)
        self._came()

    def _are_too_large(self) -> bool:
        return sum(len(message.data) for message, _ in self._kept.values()) > MOST_BYTES
