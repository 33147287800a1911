"""The node ends within two seconds of a signal, whatever it is doing, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState
from sensor_msgs.msg import Image

from harness import RELIABLE, header, street
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.ros.ending import FAST_DDS_LOCK

LIMIT = 2.0
DEADLY = (signal.SIGINT, signal.SIGTERM)

SLOW = """
import sys, time
from sam2vss_ros.ros.ending import Ending
ending = Ending()
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
def slow(*_, **__):
    print("slow", flush=True)
    time.sleep(60)
{what} = slow
from sam2vss_ros.ros.node import run
run(ending)
"""
"""The node, one of whose parts takes a minute, and says so."""


@contextmanager
def started(root: Path, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def segments(pid: int) -> list[Path]:
    """The shared memory of a process's participants in DDS."""
    shared = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in the meantime
            if lock := FAST_DDS_LOCK.fullmatch(os.readlink(link)):
                shared.append(Path(lock[1]))
    return shared


def assert_ends(process: subprocess.Popen[str], number: int) -> None:
    shared = segments(process.pid)
    begin = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < LIMIT
    assert process.returncode == 0, errors
    assert "Traceback" not in errors and "cannot" not in errors, errors
    assert not any(segment.exists() for segment in shared)


def hears(pid: int, number: int) -> bool:
    """Whether `Ending` waits for a signal. Before its first line runs, Python's own rules hold."""
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) >> (number - 1) & 1)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes want every core."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", DEADLY)
@pytest.mark.parametrize("seconds", [0.0, 0.6, 1.6])
def test_while_it_starts(root: Path, number: int, seconds: float) -> None:
    with started(root, root / "scripts/vss_node", "--ros-args", "-r", "__ns:=/starts") as process:
        while process.poll() is None and not hears(process.pid, number):
            time.sleep(0.005)
        time.sleep(seconds)
        assert process.poll() is None
        assert_ends(process, number)


@pytest.mark.parametrize("number", DEADLY)
def test_while_networks_are_loaded(root: Path, number: int) -> None:
    with started(root, "-c", SLOW.format(what="Perception.load")) as process:
        assert process.stdout is not None and process.stdout.readline() == "slow\n"
        assert_ends(process, number)


@pytest.mark.parametrize("number", DEADLY)
def test_in_the_middle_of_a_frame_on_a_busy_machine(
    ros: RosSession, root: Path, number: int
) -> None:
    camera = ros.node("camera")
    images = camera.create_publisher(Image, "image", RELIABLE)
    image = image_message(street(), "rgb8", header(1000))
    camera.create_timer(0.2, lambda: images.publish(image))
    with started(root, "-c", SLOW.format(what="VssPipeline.process")) as process:
        assert process.stdout is not None and process.stdout.readline() == "slow\n"
        with busy(4):
            assert_ends(process, number)


@pytest.mark.parametrize("number", DEADLY)
def test_unconfigured(ros: RosSession, root: Path, number: int) -> None:
    node = root / "scripts/vss_node"
    # A namespace of its own: a node of an earlier test may still be known by its services.
    place = f"/ends_by_{number}"
    arguments = "--ros-args", "-p", "autostart:=false", "-r", f"__ns:={place}"
    with started(root, node, *arguments) as process:
        client = ros.node("watcher").create_client(GetState, f"{place}/vss/get_state")

        def unconfigured() -> bool:
            state = ros.ask(client, GetState.Request()).current_state
            return bool(state.label == "unconfigured")

        ros.wait_until(unconfigured, "an unconfigured node")
        assert_ends(process, number)
