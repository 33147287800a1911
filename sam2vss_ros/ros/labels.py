"""Label images of another node, each waited for by the image that has its stamp."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.ros.following import FollowingSubscription
from sam2vss_ros.ros.messages import stamp_ns

MOST_WAITING = 16
"""Label images that may wait for their image where only the newest image is taken."""


class LabelTopic:
    """Subscribes to `dense_labels` of `node` and keeps the newest label images by their stamp.

    `follow` is to be called regularly, by the executor's thread; `wait` by the thread that
    processes the images.
    """

    def __init__(self, node: LifecycleNode, config: NodeConfig) -> None:
        self._most = config.queue_size if config.overload == "all" else MOST_WAITING
        self._kept: OrderedDict[int, tuple[Image, float]] = OrderedDict()  # with its arrival
        self._changed = threading.Condition()
        self._came = self._ended = False
        self._subscription = FollowingSubscription(
            node,
            Image,
            node.resolve_topic_name("dense_labels"),
            self._take,
            config.input_reliability,
            self._most,
        )
        self.follow = self._subscription.follow

    def wait(self, stamp: int, since: float, timeout: float) -> Image | None:
        """The label image with this stamp in nanoseconds; None where it does not come.

        It is waited for until `timeout` seconds after `since`, when its image came, in monotonic
        seconds; no longer once one with a later stamp has come after it.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or stamp in self._kept or self._passed(stamp, since),
                max(0.0, since + timeout - time.monotonic()),
            )
            found = self._kept.pop(stamp, None)
        return None if found is None else found[0]

    def reason(self) -> str:
        """Why labels may be missing."""
        if self._came:
            return (
                f"there are label images on {self._subscription.topic}, but none with its stamp: "
                "is the network slower than the camera, or does it not copy the image's header?"
            )
        return self._subscription.silence()

    def end(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def destroy(self) -> None:
        """End the subscription."""
        self._subscription.destroy()

    def _passed(self, stamp: int, since: float) -> bool:
        return any(other > stamp and came > since for other, (_, came) in self._kept.items())

    def _take(self, message: Image) -> None:
        stamp = stamp_ns(message.header.stamp)
        with self._changed:
            self._came = True
            self._kept.pop(stamp, None)  # of an earlier round of a bag that loops
            self._kept[stamp] = message, time.monotonic()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            self._changed.notify_all()
