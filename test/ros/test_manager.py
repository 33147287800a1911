"""Nav2's lifecycle manager before a node in a process of its own, over real services.

nav2_lifecycle_manager itself is C++ and no wheel. This plays it by its source
(`LifecycleManager::changeStateForNode`, `startup`, `pause`, `resume`, `reset`, `shutdown`): a
transition counts once change_state has succeeded and get_state names the state that it leads to.
With `bond_timeout: 0.0` it makes no bond, which Python nodes seldom have.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import Image

from harness import RELIABLE, header, street
from node_process import NodeProcess
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message

LEADS_TO = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
}

# Each node has a namespace of its own: what a node of an earlier test said of itself may stay known
# for a while after its end, and a call would go to that one.


class Manager:
    """The manager of one node."""

    def __init__(self, ros: RosSession, node: str) -> None:
        self._ros = ros
        own = ros.node("lifecycle_manager_navigation")
        self._change = own.create_client(ChangeState, f"{node}/change_state")
        self._state = own.create_client(GetState, f"{node}/get_state")
        self.bonds = [name for name, _ in own.get_topic_names_and_types() if name == "/bond"]
        self.state()  # once it is answered, no answer to a change can get lost

    def state(self) -> int:
        return int(self._ros.ask(self._state, GetState.Request()).current_state.id)

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._ros.call(self._change, request).success and (
            self.state() == LEADS_TO[transition]
        )

    def startup(self) -> bool:
        return self.change(Transition.TRANSITION_CONFIGURE) and self.resume()

    def resume(self) -> bool:
        return self.change(Transition.TRANSITION_ACTIVATE)

    def pause(self) -> bool:
        return self.change(Transition.TRANSITION_DEACTIVATE)

    def reset(self) -> bool:
        return self.pause() and self.change(Transition.TRANSITION_CLEANUP)

    def shutdown(self) -> bool:
        return self.reset() and self.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


@pytest.fixture
def process() -> Iterator[NodeProcess]:
    parameters = "autostart:=false", "threads:=1", "image_size:=256", "discovery:=off"
    node = NodeProcess("-r", "__ns:=/led", *(word for p in parameters for word in ("-p", p)))
    try:
        yield node
    finally:
        node.kill()


def test_nav2s_manager_leads_the_node_through_its_life(
    ros: RosSession, process: NodeProcess
) -> None:
    manager = Manager(ros, "/led/vss")
    watcher = ros.node("watcher")
    labels: list[Any] = []
    watcher.create_subscription(Image, "/led/vss/label_image", labels.append, RELIABLE)
    camera = watcher.create_publisher(Image, "/led/image", RELIABLE)
    stamps = itertools.count(100, 100)

    def answers() -> None:
        """Show it images until one is answered: it may not know of its subscriber yet."""
        ros.wait_until(camera.get_subscription_count, "the node's subscription")
        before = len(labels)

        def answered() -> bool:
            camera.publish(image_message(street(), "rgb8", header(next(stamps))))
            return len(labels) > before

        ros.wait_until(answered, "a label image", 60, pause=0.2)

    assert manager.startup()
    answers()
    assert manager.pause()
    ros.wait_until(lambda: camera.get_subscription_count() == 0, "the end of the subscription")
    assert manager.resume()
    answers()
    assert manager.reset()
    assert manager.startup()
    answers()
    assert manager.shutdown()
    assert manager.bonds == []
    assert process.complaints() == []
    assert process.end_by(signal.SIGINT, 20) == 0


def test_the_parameters_for_nav2_are_taken(ros: RosSession, root: Path) -> None:
    node = NodeProcess(
        "-r", "__ns:=/nav2", "--params-file", str(root / "config/nav2_semantic.yaml")
    )
    try:
        client = ros.node("watcher").create_client(GetParameters, "/nav2/vss/get_parameters")
        names = ["output_width", "cloud_size", "autostart"]
        width, size, autostart = ros.ask(client, GetParameters.Request(names=names)).values
        assert (width.integer_value, size.string_value, autostart.bool_value) == (
            320, "labels", False,
        )  # fmt: skip
        assert node.complaints() == []
    finally:
        node.kill()


def test_a_manager_learns_that_the_node_cannot_start(ros: RosSession) -> None:
    wrong = "-p", "autostart:=false", "-p", "masks:=[people=Nobody]"
    node = NodeProcess("-r", "__ns:=/wrong", *wrong)
    try:
        manager = Manager(ros, "/wrong/vss")
        assert not manager.startup()
        assert any("masks: people: no class 'Nobody'" in said for said in node.complaints())
        assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    finally:
        node.kill()
