"""Blur whom a mask of the node covers: masks:="people=Pedestrian,Bicyclist"."""

import argparse
import contextlib
from collections import deque

import cv2
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from sam2vss_ros.io.ros_images import pixels_of
from sam2vss_ros.ros.conversions import image_message, image_to_rgb


class Blur(Node):
    def __init__(self, image: str, mask: str, out: str) -> None:
        super().__init__("blur_people")
        self.waiting: deque[Image] = deque(maxlen=60)  # until their masks come
        self.publisher = self.create_publisher(Image, out, 10)
        self.create_subscription(Image, image, lambda i: self.waiting.append(i), 10)
        self.create_subscription(Image, mask, self.blur, 10)

    def blur(self, mask: Image) -> None:
        for image in (i for i in self.waiting if i.header.stamp == mask.header.stamp):
            rgb = image_to_rgb(image)
            rgb = cv2.copyTo(cv2.blur(rgb, (31, 31)), pixels_of(mask), rgb.copy())
            self.publisher.publish(image_message(rgb, "rgb8", image.header))


parser = argparse.ArgumentParser(description=__doc__)
for name, topic in (("image", "/image"), ("mask", "/vss/mask/people"), ("out", "/image_blurred")):
    parser.add_argument(f"--{name}", default=topic, help=f"topic ({topic})")
args = parser.parse_args()
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # its own may end a wait in an error
with contextlib.suppress(KeyboardInterrupt):
    node = Blur(args.image, args.mask, args.out)
    while True:  # not spin: the middleware now and then wakes nobody for a signal
        rclpy.spin_once(node, timeout_sec=0.2)
