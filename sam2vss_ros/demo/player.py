"""The demo's camera: publishes a clip as a camera driver would.

Topics `image_raw` and `camera_info` in the namespace of the camera, best effort, stamped with the
time of publishing. Reports `loading` and `loaded`, waits for the go, which is the same for all
cameras, then reports `played` (stamp in ns) per frame and ends after the last.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sam2vss_ros.demo.clips import Clip, Rgb, open_clip
from sam2vss_ros.demo.process import emit, wait_for_go
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.calibration import pinhole
from sam2vss_ros.ros.conversions import image_message

HELD = 600
"""Frames decoded before playing (0.9 MB each at 640x480), so that the node has the processor."""

FIELD_OF_VIEW = 60.0  # degrees, horizontal; a common webcam


def main() -> None:
    """Run the camera: its arguments are what `sam2vss_ros.demo` gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--loop-seconds", type=float, required=True)
    options = parser.parse_args()
    try:
        run(options)
    except InputError as error:
        sys.exit(str(error))


def run(options: argparse.Namespace) -> None:
    """Load the clip, wait for the go, play. Raises InputError for frames that cannot be read."""
    clip = open_clip(options.source, (options.width, options.height))
    held = []
    stream = clip.read()
    for image in itertools.islice(stream, HELD):
        held.append(image)
        emit("loading", frames=len(held), of=min(HELD, clip.count))
    emit("loaded")
    frames = endless(clip, held, stream) if options.loop_seconds else itertools.chain(held, stream)
    rclpy.init()
    node = Node("player", namespace=options.namespace)
    try:
        play(node, frames, options.rate, options.loop_seconds)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def endless(clip: Clip, held: list[Rgb], stream: Iterator[Rgb]) -> Iterator[Rgb]:
    """The clip again and again, from memory where all of it is held."""
    yield from itertools.chain(held, stream)
    while True:
        yield from held if len(held) < HELD else clip.read()


def play(node: Node, frames: Iterator[Rgb], rate: float, seconds: float) -> None:
    """Publish `frames` at `rate` Hz after the go; end after `seconds` if not 0."""
    images = node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    if not wait_for_go():
        return
    while not (_is_heard(images) and _is_heard(infos)):
        time.sleep(0.01)
    frame_id = f"{node.get_namespace().lstrip('/')}_optical_frame"
    start = time.monotonic()
    for tick, image in enumerate(frames):
        if seconds and tick >= seconds * rate:
            break
        time.sleep(max(0.0, start + tick / rate - time.monotonic()))
        stamp: Time = node.get_clock().now()
        header = Header(stamp=stamp.to_msg(), frame_id=frame_id)
        message = image_message(image, "rgb8", header)
        images.publish(message)
        infos.publish(camera_info(message))
        emit("played", stamp=stamp.nanoseconds)
    for publisher in (images, infos):
        publisher.destroy()


def camera_info(image: Image) -> CameraInfo:
    """The calibration of an ideal camera that takes `image`."""
    calibration = pinhole(image.width, image.height, FIELD_OF_VIEW)
    return CameraInfo(header=image.header, **dataclasses.asdict(calibration))


def _is_heard(publisher: Publisher) -> bool:
    return bool(publisher.get_subscription_count() > 0)


if __name__ == "__main__":
    main()
