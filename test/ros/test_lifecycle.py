"""The node's life: cycles, autostart, refusals, what is given back, how the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from harness import Start
from ros_session import RosSession
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline


def test_starts_by_itself(start: Start) -> None:
    bench = start().active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")


def test_waits_for_a_manager_without_autostart(start: Start) -> None:
    bench = start(autostart=False)
    assert bench.state() == "unconfigured"
    assert bench.change("configure")
    assert bench.state() == "inactive"
    assert bench.change("activate")
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")


def test_cycles_give_everything_back(ros: RosSession, start: Start) -> None:
    made: list[weakref.ref[VssPipeline]] = []

    def remember(perception: Perception, config: PipelineConfig) -> VssPipeline:
        pipeline = VssPipeline(perception, config)
        made.append(weakref.ref(pipeline))
        return pipeline

    bench = start(remember, autostart=False)
    labels = bench.record("/vss/label_image", Image)
    own = {p.topic_name for p in bench.node.publishers}
    stamp = 0
    for cycle in range(3):
        assert bench.change("configure")
        for _ in range(2):
            assert bench.change("activate")
            bench.active()
            stamp += 100
            bench.send(stamp)
            bench.wait_for_answer(labels, stamp)
            assert bench.change("deactivate")
            ros.wait_until(lambda: made[-1]() is None, "the end of the pipeline")
        assert bench.change("cleanup")
        assert {p.topic_name for p in bench.node.publishers} == own
        assert not any("enable" in s.srv_name for s in bench.node.services)
        assert len(made) == 2 * (cycle + 1)  # one of each pair was loaded by configure
    assert bench.change("unconfigured_shutdown")
    assert bench.state() == "finalized"


class Clinging(VssPipeline):
    """Cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("the device is gone")


def test_error_while_deactivating_leads_to_unconfigured(start: Start) -> None:
    bench = start(make_pipeline=Clinging).active()
    assert not bench.change("deactivate")
    bench.wait_for_log("cannot deactivate: the device is gone")
    assert bench.state() == "unconfigured"
    assert not [s for s in bench.node.subscriptions if s.topic_name == "/image"]
    assert bench.change("configure")
    assert bench.change("activate")
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")


def test_shutdown_while_active(start: Start) -> None:
    bench = start().active()
    bench.send(0)
    assert bench.change("active_shutdown")
    assert bench.state() == "finalized"
    assert not [s for s in bench.node.subscriptions if s.topic_name == "/image"]


def test_services_and_images_while_inactive(ros: RosSession, start: Start) -> None:

    bench = start(autostart=False)
    assert bench.change("configure")
    reset = bench.ears.create_client(Trigger, "/vss/reset")
    answer = ros.call(reset, Trigger.Request())
    assert (answer.success, answer.message) == (False, "the node is not active: activate it first")
    bench.wait_for_value("state", "inactive")
    assert not [s for s in bench.node.subscriptions if s.topic_name == "/image"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("checkpoint", "/nowhere/sam2.1_hiera_tiny.pt", "/nowhere/sam2.1_hiera_tiny.pt"),
        ("classes", "/nowhere/classes.yaml", "/nowhere/classes.yaml"),
        ("unlabelled_id", 1, "unlabelled_id: 1 is the id of class"),
    ],
)
def test_refuses_to_configure_and_can_be_corrected(
    start: Start, name: str, value: object, said: str
) -> None:
    model = {"model": "sam2.1_hiera_tiny"} if name == "checkpoint" else {}
    bench = start(**{name: value}, **model)
    bench.wait_for_log("cannot configure")
    assert said in bench.log
    assert bench.state() == "unconfigured"
    assert not bench.change("configure")
    corrected = {"checkpoint": "", "classes": "", "unlabelled_id": 255, "model": "mobile"}
    assert all(r.successful for r in bench.set(**{k: corrected[k] for k in {name, *model}}))
    assert bench.change("configure")
    assert bench.change("activate")
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"x" * 5000])
def test_refuses_a_broken_checkpoint(start: Start, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    path.write_bytes(content)
    bench = start(model="sam2.1_hiera_tiny", checkpoint=str(path))
    bench.wait_for_log("cannot configure")
    assert str(path) in bench.log
    assert bench.state() == "unconfigured"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_executable_ends_with_code_0(ros: RosSession, root: Path, number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, root / "scripts/vss_node", "--ros-args", "-r", "__ns:=/front"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    try:
        client = ros.node("watcher").create_client(GetState, "/front/vss/get_state")

        def active() -> bool:
            assert process.poll() is None, process.communicate()[1]
            return ros.ask(client, GetState.Request()).current_state.label == "active"

        ros.wait_until(active, "an active node")
        process.send_signal(number)
        process.send_signal(number)  # as under `ros2 launch`
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.wait()
