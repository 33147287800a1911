"""The scripts of examples/ that are ROS nodes, as processes beside real nodes."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rcl_interfaces.srv import ListParameters
from sensor_msgs.msg import Image

from depth_scene import TRACK_ID, follow_car
from harness import Start, header, street
from ros_session import RosSession
from sam2vss_ros.io.ros_images import pixels_of
from sam2vss_ros.ros.conversions import image_message

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Script:
    """An example as a process, as a terminal starts it: what starts the tests may ignore Ctrl+C."""

    def __init__(self, name: str, *arguments: object) -> None:
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> tuple[str, str]:
        """What it has printed, once it has ended by itself."""
        return self.process.communicate(timeout=90)


@pytest.fixture
def script() -> Iterator[Any]:
    """Starts examples, and ends them with the test."""
    started: list[Script] = []

    def start_script(name: str, *arguments: object) -> Script:
        started.append(Script(name, *arguments))
        return started[-1]

    yield start_script
    for one in started:
        if one.running:
            one.process.terminate()
        try:
            one.process.communicate(timeout=60)
        finally:
            one.process.kill()


def test_listen_to_objects(start: Start, script: Any) -> None:
    bench = start(confirm_frames=1)
    bench.active()
    follow_car(bench)
    listener = script("listen_to_objects", "--count", 3)
    sent = [0]

    def heard() -> bool:
        sent[0] += 33
        bench.send(sent[0])
        return not listener.running

    bench.ros.wait_until(heard, "the listener's end", pause=0.1)
    said, wrong = listener.end()
    assert listener.process.returncode == 0, wrong
    assert re.search(rf"^\w+ {TRACK_ID}: \(\d+, \d+\), [1-9]\d* pixels$", said, re.MULTILINE), said


def test_publish_folder(ros: RosSession, script: Any, tmp_path: Path) -> None:
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), street(shift=index)[..., ::-1])
    heard: list[Image] = []
    ros.node("ears").create_subscription(Image, "/camera/image", heard.append, 10)
    player = script("publish_folder", tmp_path, "--topic", "/camera/image", "--rate", 20)
    ros.wait_until(lambda: len(heard) == 3, lambda: f"three images, not {len(heard)}")
    for index, message in enumerate(heard):
        np.testing.assert_array_equal(pixels_of(message), street(shift=index))
    stamps = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in heard]
    assert stamps == sorted(set(stamps))
    assert player.end()[1] == "" and player.process.returncode == 0


def test_blur_people(ros: RosSession, script: Any) -> None:
    node = ros.node("camera")
    images = node.create_publisher(Image, "/image", 10)
    masks = node.create_publisher(Image, "/vss/mask/people", 10)
    heard: list[Image] = []
    node.create_subscription(Image, "/image_blurred", heard.append, 10)
    script("blur_people")
    ros.wait_until(
        lambda: images.get_subscription_count() and masks.get_subscription_count(),
        "the example's subscriptions",
    )
    image, mask = street(), np.zeros(street().shape[:2], np.uint8)
    mask[70:90, 40:60] = 255
    sent = [0]

    def blurred() -> bool:
        sent[0] += 33
        images.publish(image_message(image, "rgb8", header(sent[0])))
        masks.publish(image_message(mask, "mono8", header(sent[0])))
        return bool(heard)

    ros.wait_until(blurred, "an image without people", pause=0.1)
    seen = pixels_of(heard[0])
    np.testing.assert_array_equal(seen[mask == 0], image[mask == 0])
    assert seen[mask > 0].std() < image[mask > 0].std()


@pytest.mark.parametrize(
    ("name", "topic"), [("blur_people", "/vss/mask/people"), ("listen_to_objects", "/vss/objects")]
)
def test_ctrl_c(name: str, topic: str, ros: RosSession, script: Any) -> None:
    node, example = ros.node("ears"), script(name)
    ros.wait_until(lambda: node.count_subscribers(topic), f"the subscription of {name}")
    # One that answers spins: rclpy complains where its executor is interrupted as it begins.
    ros.ask(
        node.create_client(ListParameters, f"/{name}/list_parameters"), ListParameters.Request()
    )
    example.process.send_signal(signal.SIGINT)
    assert example.end() == ("", "")
    assert example.process.returncode == 0


@pytest.mark.parametrize("name", ["blur_people", "listen_to_objects", "publish_folder"])
def test_help(name: str, script: Any) -> None:
    shown = script(name, "--help")
    assert "usage:" in shown.end()[0]
    assert shown.process.returncode == 0
