"""The frame-time budget as people see it: /diagnostics says what is left out."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from harness import Harness, Start
from ros_session import RosSession
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.diagnostics import CANNOT_KEEP_UP
from sam2vss_ros.stream import budget


class Clock:
    """Every look at it takes `step` seconds."""

    def __init__(self) -> None:
        self.step, self._now = 1.0, 0.0

    def __call__(self) -> float:
        self._now += self.step
        return self._now


def send(bench: Harness, stamps: range) -> None:
    for stamp in stamps:
        bench.send(stamp * 100)
        bench.wait_for_value("frames processed", str(stamp + 1))


def test_diagnostics_tell_what_is_left_out(
    ros: RosSession, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WINDOW", 1)
    monkeypatch.setattr(budget, "PATIENCE", 1)
    clock = Clock()

    def make(perception: Perception, config: PipelineConfig) -> VssPipeline:
        return VssPipeline(perception, config, clock)

    bench = start(make, target_fps=1.0).active()
    words = list(budget.DEGRADED.values())
    for i in range(len(words) + 1):
        send(bench, range(i, i + 1))
        bench.wait_for_value("degraded", "; ".join(words[:i]) or "nothing")
        assert bench.status().level == DiagnosticStatus.OK
    send(bench, range(len(words) + 1, len(words) + 2))
    ros.wait_until(lambda: bench.status().level == DiagnosticStatus.WARN, "a warning")
    assert bench.status().message == CANNOT_KEEP_UP

    assert bench.set(target_fps=0.0)[0].successful
    send(bench, range(len(words) + 2, len(words) + 3))
    bench.wait_for_value("degraded", "nothing")
    ros.wait_until(lambda: bench.status().level == DiagnosticStatus.OK, "OK again")

    clock.step = 0.0
    assert bench.set(target_fps=1.0)[0].successful
    send(bench, range(len(words) + 3, len(words) + 5))
    bench.wait_for_value("degraded", "nothing")
