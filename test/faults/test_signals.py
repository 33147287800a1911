"""SIGINT and SIGTERM to the real process of the node, in every state of its life."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from harness import header, street
from node_process import NodeProcess
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message

LIMIT = 2.0
"""Seconds from the signal to the end of the process."""

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)


@pytest.fixture
def launch() -> Iterator[Callable[..., NodeProcess]]:
    """Starts the process of a node `/robot/vss` with these parameters."""
    nodes: list[NodeProcess] = []

    def start(**parameters: object) -> NodeProcess:
        given = [part for k, v in parameters.items() for part in ("-p", f"{k}:={v}")]
        # A name that no test before has had: see `RosSession.close`.
        nodes.append(NodeProcess("-r", "__ns:=/robot", "-p", "threads:=1", *given))
        return nodes[-1]

    yield start
    for node in nodes:
        node.kill()


def wait_for_state(ros: RosSession, node: NodeProcess, label: str) -> None:
    client = ros.node("watcher").create_client(GetState, "/robot/vss/get_state")

    def reached() -> bool:
        assert node.running, node.log
        return bool(ros.ask(client, GetState.Request()).current_state.label == label)

    ros.wait_until(reached, lambda: f"state {label}; log: {node.log}")


def change(ros: RosSession, node: NodeProcess, label: str, transition: int) -> None:
    """Lead the node out of the state `label`."""
    client = ros.node("manager").create_client(ChangeState, "/robot/vss/change_state")
    wait_for_state(ros, node, label)  # once it is answered, no answer to a change can get lost
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


def check_end(node: NodeProcess, number: signal.Signals) -> int:
    """End the node; returns the exit code."""
    try:
        code = node.end_by(number, LIMIT)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not down within {LIMIT} s of {number.name}; log: {node.log[-2000:]}")
    assert "Traceback" not in node.log and "terminate called" not in node.log, node.log
    return code


@SIGNALS
def test_unconfigured(
    ros: RosSession, launch: Callable[..., NodeProcess], number: signal.Signals
) -> None:
    node = launch(autostart="false")
    wait_for_state(ros, node, "unconfigured")
    assert check_end(node, number) == 0, node.log


@SIGNALS
def test_inactive(
    ros: RosSession, launch: Callable[..., NodeProcess], number: signal.Signals
) -> None:
    node = launch(autostart="false")
    change(ros, node, "unconfigured", Transition.TRANSITION_CONFIGURE)
    assert check_end(node, number) == 0, node.log


@SIGNALS
def test_active_without_images(
    ros: RosSession, launch: Callable[..., NodeProcess], number: signal.Signals
) -> None:
    node = launch(no_image_warning=0.5)
    wait_for_state(ros, node, "active")
    assert check_end(node, number) == 0, node.log


@SIGNALS
def test_in_the_middle_of_a_frame(
    ros: RosSession, launch: Callable[..., NodeProcess], number: signal.Signals
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
        assert check_end(node, number) == 0, node.log


@SIGNALS
def test_after_it_was_refused_to_configure(
    ros: RosSession, launch: Callable[..., NodeProcess], number: signal.Signals
) -> None:
    node = launch(classes="/nowhere/classes.yaml")
    ros.wait_until(lambda: "cannot configure" in node.log, lambda: f"a refusal; {node.log}")
    assert check_end(node, number) == 0, node.log


@SIGNALS
@pytest.mark.parametrize(
    ("library", "seconds"),
    [("_rclpy_pybind11", 0.0), ("libtorch_cpu", 0.0), ("libtorch_cpu", 0.7), ("libtorch_cpu", 1.4)],
)
def test_while_it_starts(
    ros: RosSession,
    launch: Callable[..., NodeProcess],
    number: signal.Signals,
    library: str,
    seconds: float,
) -> None:
    """In imports, while the node is made, while networks are loaded: silent, whatever the code."""
    node = launch()
    ros.wait_until(lambda: node.has_loaded(library), f"the import of {library}")
    time.sleep(seconds)
    assert check_end(node, number) in (0, -number, 128 + number), node.log
