"""Whatever fails inside costs the frame in hand: it is counted by reason, and the next is right.

One live node for each place of failure; there every kind of error happens once, in mid-stream.
"""

from __future__ import annotations

import copy
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from harness import CAR_BOX, Harness, Start, header
from ros_session import RosSession
from sam2vss_ros.affinity.tracker import AffinityTracker
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.perception import Perception
from sam2vss_ros.ros.outputs import Outputs
from sam2vss_ros.sam2.discovery import RegionSource
from sam2vss_ros.srv import AddPrompt
from sam2vss_ros.stages import classify, compose, decide, discover, features, track

ERRORS = [
    RuntimeError("the device is gone"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
    ValueError("operands could not be broadcast together"),
    KeyError("no such object"),
    ZeroDivisionError("division by zero"),
    np.linalg.LinAlgError("Singular matrix"),
    cv2.error("OpenCV(5.0.0) error: (-215:Assertion failed) !ssize.empty()"),
    OSError(28, "No space left on device"),
]

PLACES: list[tuple[Any, str]] = [
    (Perception, "encode_images"),
    (Perception, "run_head"),
    (Perception, "classify_masks"),
    (AffinityTracker, "step"),
    (AffinityTracker, "commit"),
    (AffinityTracker, "start"),
    (RegionSource, "propose"),
    (features, "see"),
    (track, "follow"),
    (discover, "discover"),
    (classify, "classify"),
    (decide, "decide"),
    (compose, "compose"),
    (Outputs, "publish"),
]


class Trap:
    """A function that raises `error` once, whenever that is set, instead of doing its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.error: BaseException | None = None
        work = getattr(owner, name)

        def snap(*args: Any, **kwargs: Any) -> Any:
            if self.error is not None:
                error, self.error = self.error, None
                raise copy.copy(error)  # whose traceback holds the node
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, snap)


def finished(bench: Harness) -> dict[str, int]:
    """Frames by what became of them, as diagnostics tell."""
    values = bench.diagnostics()
    counts = {k: int(values.get(f"frames {k}", "0")) for k in ("in", "processed", "dropped")}
    return counts | {"failed": int(values.get("frames failed", "0"))}


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
def test_failure_of_a_stage_costs_its_frame(
    start: Start, ros: RosSession, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    trap = Trap(monkeypatch, owner, name)
    bench = start(discovery="regions", min_class_score=0.0, keyframe_interval=2, overload="all")
    labels = bench.record("/vss/label_image", Image)
    reset = bench.ears.create_client(Trigger, "/vss/reset")
    bench.active()
    stamp, expected = 0, dict.fromkeys(("in", "processed", "dropped", "failed"), 0)

    def send() -> None:
        nonlocal stamp
        stamp += 100
        expected["in"] += 1
        armed = trap.error
        bench.send(stamp)
        ros.wait_until(
            lambda: (f := finished(bench))["in"] == f["processed"] + f["failed"] == expected["in"],
            lambda: f"the end of frame {expected['in']}: {finished(bench)}; log: {bench.log}",
        )
        expected["failed" if armed is not trap.error else "processed"] += 1

    for _ in range(3):
        send()
    for error in ERRORS:
        assert ros.call(reset, Trigger.Request()).success
        trap.error = error
        for _ in range(4):  # objects are found, followed and looked for anew within these
            send()
            if trap.error is None:
                break
        assert trap.error is None, f"{name} was not reached"
        send()
        bench.wait_for_answer(labels, stamp)
    assert finished(bench) == expected, bench.log
    assert expected["failed"] == len(ERRORS)
    reasons = [key for key in bench.diagnostics() if key.startswith("failed: ")]
    for error in ERRORS:
        assert any(type(error).__name__ in reason for reason in reasons), reasons


def test_reason_without_end_is_told_in_short(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = Trap(monkeypatch, compose, "compose")
    bench = start().active()
    trap.error = RuntimeError("a very long reason " * 50_000)
    bench.send(0)
    bench.wait_for_value("failed: error: RuntimeError", "1")
    bench.wait_for_log("a very long reason")
    assert max(map(len, bench.log.splitlines())) < 1000


def test_failure_while_a_prompt_is_taken_up_keeps_the_prompt(
    start: Start, ros: RosSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = Trap(monkeypatch, AffinityTracker, "from_prompt")
    bench = start(discovery="off")
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")
    client = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    assert ros.call(client, AddPrompt.Request(box=CAR_BOX)).success
    trap.error = RuntimeError("the device is busy")
    bench.send(100)
    bench.wait_for_value("failed: error: RuntimeError", "1")
    bench.send(200)
    bench.wait_for_value("objects", "1")


def test_publisher_that_fails_costs_nobody_else_an_answer(
    start: Start, ros: RosSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start()
    labels = bench.record("/vss/label_image", Image)
    bench.record("/vss/confidence_image", Image)
    bench.active()
    broken = next(p for p in bench.node.publishers if p.topic_name == "/vss/confidence_image")
    trap = Trap(monkeypatch, broken, "publish")
    bench.send(0)
    bench.wait_for_answer(labels, 0)
    trap.error = RuntimeError("failed to publish: the transport is full")
    bench.send(100)
    ros.wait_until(lambda: trap.error is None, "the failure")
    bench.send(200)
    assert bench.wait_for_answer(labels, 200).header == header(200)
    values = bench.diagnostics
    ros.wait_until(lambda: finished(bench)["in"] == 3, "three frames")
    ros.wait_until(
        lambda: (f := finished(bench))["processed"] + f["failed"] == 3,
        lambda: f"the end of all: {values()}",
    )


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailableError("model mobile: its weights are gone"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        ImportError("libcudnn.so.9: cannot open shared object file"),
        OSError("a very long reason " * 50_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_networks_that_cannot_be_loaded_and_then_can(start: Start, error: Exception) -> None:
    failures = [error]

    def load(config: PipelineConfig) -> Perception:
        if failures:
            raise copy.copy(failures.pop())
        return Perception.load(config)

    bench = start(autostart=False)
    bench.node._load = load
    assert not bench.change("configure")
    assert bench.state() == "unconfigured"
    assert "cannot configure" in bench.log
    assert max(map(len, bench.log.splitlines())) < 1000
    assert bench.change("configure") and bench.change("activate")
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")


LAWS = ["configure", "activate", "deactivate", "cleanup"]
ALLOWED = {
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("inactive", "cleanup"): "unconfigured",
    ("active", "deactivate"): "inactive",
}


def test_transitions_in_any_order(start: Start, ros: RosSession) -> None:
    """Every transition in every state: done where it is allowed, else refused without an effect."""
    bench = start(autostart=False, mode="network")
    labels = bench.record("/vss/label_image", Image)
    random, state, stamp = np.random.default_rng(5), "unconfigured", 0
    tried: set[tuple[str, str]] = set()
    while len(tried) < 12 or state != "active":
        transition = LAWS[random.integers(len(LAWS))]
        tried.add((state, transition))
        allowed = ALLOWED.get((state, transition))
        assert bench.change(transition) == (allowed is not None), (state, transition, bench.log)
        state = allowed or state
        assert bench.state() == state
        if state == "active":
            stamp += 100
            bench.active().send(stamp)
            bench.wait_for_answer(labels, stamp)
    assert "Traceback" not in bench.log
