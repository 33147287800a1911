"""A bag gives the same labels live and offline: the proof that scores of bags are the node's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from harness import Harness, Start, street
from pipelines import open_pipeline
from ros_session import RosSession
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.bag_writer import header, image_message, new_bag
from sam2vss_ros.io.bags import COMPRESSED_IMAGE, Bag
from sam2vss_ros.io.labelled_bags import open_bag
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame
from sam2vss_ros.io.stamps import header_stamp_ns

TOPIC = "/camera/image_raw"
# Labels of any scene: a drawn car on plain ground is not what the semantics know.
OPTIONS: dict[str, Any] = {
    "threads": 1,
    "image_size": 256,
    "max_objects": 3,
    "min_class_score": 0.0,
}
SIZE = (160, 120)
STAMP = 1_700_000_000_123_456_789


class Player:
    """Publishes a topic of a bag as `ros2 bag play` does: its bytes, under its recorded QoS."""

    def __init__(self, bench: Harness, bag: Bag, topic: str) -> None:
        self._bag, self._topic = bag, topic
        (connection,) = [c for c in bag.connections if c.topic == topic]
        kind = CompressedImage if connection.msgtype == COMPRESSED_IMAGE else Image
        (qos,) = connection.ext.offered_qos_profiles
        profile = QoSProfile(
            history=HistoryPolicy[qos.history.name],
            depth=100,  # all of it is sent at once, faster than any camera
            reliability=ReliabilityPolicy[qos.reliability.name],
            durability=DurabilityPolicy[qos.durability.name],
        )
        self.publisher = bench.camera.create_publisher(kind, topic, profile)

    def play(self) -> int:
        """Send every message; returns how many there are."""
        messages = [data for _, _, data in self._bag.messages(self._topic)]
        for data in messages:
            self.publisher.publish(data)
        return len(messages)


def live(ros: RosSession, start: Start, path: Path, topic: str) -> dict[int, bytes]:
    """The label image of every stamp, from a node that hears the bag played."""
    base, _, transport = topic.partition("/compressed")
    bench = start(
        camera_qos=None,
        overload="all",
        queue_size=100,
        image_transport="raw" if base == topic else "compressed",
        input_reliability="reliable",
        cli_args=["--ros-args", "-r", f"image:={base}"],
        **OPTIONS,
    )
    labels = bench.record("/vss/label_image", Image)
    player = Player(bench, Bag(path), topic)
    bench.active()
    ros.wait_until(player.publisher.get_subscription_count, "the node's subscription")
    sent = player.play()
    bench.wait_for_value("frames in", str(sent))

    def settled() -> bool:
        values = bench.diagnostics()
        done = int(values["frames processed"])
        others = int(values["frames failed"]) + int(values["frames dropped"])
        return done + others == sent and len(labels) == done

    ros.wait_until(settled, "the answers to all images")
    return {header_stamp_ns(m): bytes(m.data) for m in labels}


def offline(path: Path, topic: str) -> dict[int, bytes]:
    """The same from the reader of bags and the pipeline, without ROS."""
    pipeline = open_pipeline(PipelineConfig(**OPTIONS))
    items = [i for i in open_bag(path, topic).read() if isinstance(i, LabelledFrame)]
    answers = [pipeline.process(item.frame) for item in items]
    return {a.stamp_ns: a.label_image.tobytes() for a in answers if not a.out_of_order}


@pytest.mark.parametrize(
    ("storage", "compressed"), [("mcap", ""), ("sqlite3", ""), ("mcap", "jpeg")]
)
def test_live_and_offline_labels_are_identical(
    storage: str, compressed: str, ros: RosSession, start: Start, tmp_path: Path
) -> None:
    images, bag = tmp_path / "images", tmp_path / "bag"
    images.mkdir()
    for i in range(8):
        cv2.imwrite(str(images / f"{i}.png"), street(*SIZE, shift=4 * i)[..., ::-1])
    arguments = ["bag", "make", "--images", images, "--rate", 15, "--out", bag]
    arguments += ["--storage", storage] + (["--compressed", compressed] if compressed else [])
    assert main([str(a) for a in arguments]) == 0
    topic = f"{TOPIC}/compressed" if compressed else TOPIC

    heard = live(ros, start, bag, topic)

    assert heard == offline(bag, topic)
    assert len(heard) == 8
    assert len(set(heard.values())) > 1, "the labels move with the car"


def test_they_agree_on_what_is_odd(ros: RosSession, start: Start, tmp_path: Path) -> None:
    """Broken images, a stamp twice or a little too old, a scene cut, a gap, time that runs
    backwards, another size."""
    pictures = [street(*SIZE, shift=4 * i) for i in range(14)]
    pictures[5:8] = [np.rot90(p, 2).copy() // 2 for p in pictures[5:8]]  # a scene cut, and back
    pictures[10] = cv2.resize(pictures[10], (120, 120))
    seconds = np.arange(14) / 15
    seconds[3] = seconds[2]  # a stamp twice
    seconds[8:] += 20  # a gap
    seconds[11:] -= 15  # backwards
    seconds[12] = seconds[11] - 0.003  # out of order
    bag = tmp_path / "bag"
    with new_bag(bag, "mcap") as writer:
        for i, (picture, second) in enumerate(zip(pictures, seconds, strict=True)):
            head = header(STAMP + round(second * 1e9), "camera")
            message = image_message(picture, "rgb8", head)
            if i == 4:
                message.data = message.data[:1000]
            if i == 9:
                message.encoding = "32FC1"
            writer.write(TOPIC, message, STAMP + i * 10**8)
    skipped = [item for item in open_bag(bag).read() if isinstance(item, BrokenFrame)]
    assert [item.name for item in skipped] == ["000003", "000004", "000009"]

    heard = live(ros, start, bag, TOPIC)

    assert heard == offline(bag, TOPIC)
    assert len(heard) == 10
