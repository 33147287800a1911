"""SIGINT and SIGTERM to the real process of the node, in every state of its life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from harness import header, street
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message

LIMIT = 2.0
"""Seconds from the signal to the end of the process."""

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)


class Node:
    """The process of a node `/robot/vss`, with these parameters, and what it has logged."""

    def __init__(self, root: Path, parameters: dict[str, object]) -> None:
        given = [part for k, v in parameters.items() for part in ("-p", f"{k}:={v}")]
        self.process = subprocess.Popen(
            [sys.executable, root / "scripts/vss_node", "--ros-args", "-r", "__ns:=/robot", *given],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def end_by(self, number: signal.Signals) -> int:
        """Send a signal, twice as `ros2 launch` does; returns the exit code. Checks the time."""
        start = time.monotonic()
        self.process.send_signal(number)
        time.sleep(0.02)
        self.process.send_signal(number)
        try:
            self.process.wait(LIMIT - (time.monotonic() - start))
        except subprocess.TimeoutExpired:
            pytest.fail(f"not down within {LIMIT} s of {number.name}; log: {self.log[-2000:]}")
        self._reader.join()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.fixture
def launch(root: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start(**parameters: object) -> Node:
        nodes.append(Node(root, {"threads": 1} | parameters))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


def wait_for_state(ros: RosSession, node: Node, label: str) -> None:
    client = ros.node("watcher").create_client(GetState, "/robot/vss/get_state")

    def reached() -> bool:
        assert node.process.poll() is None, node.log
        return bool(ros.call(client, GetState.Request()).current_state.label == label)

    ros.wait_until(reached, lambda: f"state {label}; log: {node.log}")


def change(ros: RosSession, transition: int) -> None:
    client = ros.node("manager").create_client(ChangeState, "/robot/vss/change_state")
    assert ros.call(client, ChangeState.Request(transition=Transition(id=transition))).success


@contextmanager
def camera(ros: RosSession, width: int, height: int, rate: float) -> Iterator[None]:
    """Publishes images until the block ends, faster than they are processed."""
    images = ros.node("camera").create_publisher(Image, "/robot/image", qos_profile_sensor_data)
    over = threading.Event()

    def play() -> None:
        for tick in range(1 << 30):
            if over.wait(1 / rate):
                return
            images.publish(image_message(street(width, height, tick), "rgb8", header(33 * tick)))

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        over.set()
        player.join()


def check_end(node: Node, number: signal.Signals) -> None:
    assert node.end_by(number) == 0, node.log
    assert "Traceback" not in node.log and "terminate called" not in node.log, node.log


@SIGNALS
def test_unconfigured(ros: RosSession, launch: Callable[..., Node], number: signal.Signals) -> None:
    node = launch(autostart="false")
    wait_for_state(ros, node, "unconfigured")
    check_end(node, number)


@SIGNALS
def test_inactive(ros: RosSession, launch: Callable[..., Node], number: signal.Signals) -> None:
    node = launch(autostart="false")
    wait_for_state(ros, node, "unconfigured")
    change(ros, Transition.TRANSITION_CONFIGURE)
    check_end(node, number)


@SIGNALS
def test_active_without_images(
    ros: RosSession, launch: Callable[..., Node], number: signal.Signals
) -> None:
    node = launch(no_image_warning=0.2)
    wait_for_state(ros, node, "active")
    check_end(node, number)


@SIGNALS
def test_in_the_middle_of_a_frame(
    ros: RosSession, launch: Callable[..., Node], number: signal.Signals
) -> None:
    """Of which there is always one: the camera is faster than the node, and others wait."""
    node = launch(overload="all", discovery="regions", image_size=1024, min_class_score=0.0)
    wait_for_state(ros, node, "active")
    labels: list[Image] = []
    ros.node("ears").create_subscription(
        Image, "/robot/vss/label_image", labels.append, qos_profile_sensor_data
    )
    with camera(ros, 640, 480, rate=20):
        ros.wait_until(lambda: len(labels) >= 2, lambda: f"answers; log: {node.log}")
        check_end(node, number)


@SIGNALS
def test_after_it_was_refused_to_configure(
    ros: RosSession, launch: Callable[..., Node], number: signal.Signals
) -> None:
    node = launch(classes="/nowhere/classes.yaml")
    ros.wait_until(lambda: "cannot configure" in node.log, lambda: f"a refusal; {node.log}")
    check_end(node, number)


@SIGNALS
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 1.8, 2.5])
def test_while_it_starts(
    launch: Callable[..., Node], number: signal.Signals, seconds: float
) -> None:
    """In imports, while the node is made, while networks are loaded: silent, whatever the code."""
    node = launch()
    time.sleep(seconds)
    code = node.end_by(number)
    assert code in (0, -number, 128 + number), node.log
    assert "Traceback" not in node.log and "terminate called" not in node.log, node.log
