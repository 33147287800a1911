"""Subscribe to the node's objects, and print what is seen and where."""

import argparse
import contextlib

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from sam2vss_ros.msg import TrackedObject, TrackedObjectArray


class Listener(Node):
    def __init__(self, topic: str, count: int) -> None:
        super().__init__("listen_to_objects")
        self.left = count or -1
        self.create_subscription(TrackedObjectArray, topic, self.hear, 10)

    def hear(self, message: TrackedObjectArray) -> None:
        for seen in message.objects:
            if seen.state == TrackedObject.CONFIRMED:
                shape = seen.box.height, seen.box.width
                mask = np.unpackbits(seen.mask, count=shape[0] * shape[1]).reshape(shape)
                where = f"({seen.centroid_x:.0f}, {seen.centroid_y:.0f}), {mask.sum()} pixels"
                print(f"{seen.class_name or 'thing'} {seen.track_id}: {where}", flush=True)
        self.left -= 1


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--topic", default="/vss/objects", help="(/vss/objects)")
parser.add_argument("--count", type=int, default=0, help="messages, then end (0: no end)")
args = parser.parse_args()
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # its own may end a wait in an error
with contextlib.suppress(KeyboardInterrupt):
    node = Listener(args.topic, args.count)
    while node.left:
        rclpy.spin_once(node, timeout_sec=0.2)
