"""Publish a folder of images, or a video, as a camera does."""

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2vss_ros.demo.clips import street_clip
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.ros.conversions import image_message

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", nargs="?", type=Path, help="or a video (default: drawn)")
parser.add_argument("--topic", default="image", help="as the node's (image)")
parser.add_argument("--rate", type=float, default=10.0, help="images a second (10)")
parser.add_argument("--frames", type=int, default=None, help="at most (all)")
args = parser.parse_args()

frames = open_frames(args.folder or street_clip(Path(tempfile.gettempdir()), (640, 480)))
rclpy.init()
node = rclpy.create_node("publish_folder")
publisher = node.create_publisher(Image, args.topic, 10)
while not publisher.get_subscription_count():
    time.sleep(0.05)
for frame in islice(frames, args.frames):
    header = Header(stamp=node.get_clock().now().to_msg(), frame_id="camera")
    publisher.publish(image_message(frame.image, "rgb8", header))
    time.sleep(1 / args.rate)
publisher.wait_for_all_acked()
