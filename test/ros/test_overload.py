"""More images than the pipeline can take: what is dropped, what is kept, what is told."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from harness import Harness, Start, header
from ros_session import RosSession
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.stages.features import Looked, Predicted
from sam2vss_ros.types import Frame, SemanticFrame


class Valve(VssPipeline):
    """The pipeline behind a valve that the test opens for one frame after the other."""

    def __init__(self, perception: Perception, config: PipelineConfig) -> None:
        super().__init__(perception, config)
        self.begun, self.opened = threading.Semaphore(0), threading.Semaphore(0)
        self.looks: list[int] = []
        self.hurried: list[bool] = []

    def look(self, frame: Frame, *args: Any) -> Predicted | None:
        self.looks.append(frame.stamp_ns)
        return super().look(frame, *args)

    def process(
        self,
        frame: Frame,
        looked: Looked | None = None,
        elsewhere: float = 0.0,
        hurried: bool = False,
    ) -> SemanticFrame:
        self.hurried.append(hurried)
        self.begun.release()
        assert self.opened.acquire(timeout=60)
        return super().process(frame, looked, elsewhere, hurried)


def start_with_valve(
    start: Start, overload: str, queue_size: int, **options: Any
) -> tuple[Harness, list[Valve]]:
    made: list[Valve] = []

    def make(perception: Perception, config: PipelineConfig) -> VssPipeline:
        made.append(Valve(perception, config))
        return made[-1]

    bench = start(make_pipeline=make, overload=overload, queue_size=queue_size, **options)
    return bench, made


def send_one_by_one(bench: Harness, stamps: range, before: int) -> None:
    """Send images so that the node takes each before the next one comes."""
    for i, stamp in enumerate(stamps, before + 1):
        bench.send(stamp)
        bench.wait_for_value("frames in", str(i))


def test_latest_takes_the_newest(ros: RosSession, start: Start) -> None:
    bench, (made) = start_with_valve(start, "latest", 5)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(0)
    assert made[0].begun.acquire(timeout=60)
    send_one_by_one(bench, range(100, 500, 100), before=1)
    bench.wait_for_value("frames dropped", "3")
    # The executor is free while the pipeline works, for 20 s at most.
    reset = bench.ears.create_client(Trigger, "/vss/reset")
    assert ros.call(reset, Trigger.Request()).success
    for _ in range(2):
        made[0].opened.release()
    ros.wait_until(lambda: len(labels) == 2, "two label images")
    assert [m.header for m in labels] == [header(0), header(400)]
    bench.wait_for_value("frames processed", "2")
    assert bench.diagnostics()["frames dropped"] == "3"
    assert made[0].hurried == [False, True]


def test_latest_with_a_look_ahead(ros: RosSession, start: Start) -> None:
    """One image more is in hand; of those that come then, the newest is still the one taken."""
    bench, made = start_with_valve(start, "latest", 5, look_ahead=True)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(0)
    assert made[0].begun.acquire(timeout=60)
    made[0].opened.release()
    bench.wait_for_value("frames processed", "1")
    send_one_by_one(bench, range(100, 101), before=1)
    assert made[0].begun.acquire(timeout=60)
    send_one_by_one(bench, range(200, 201), before=2)
    ros.wait_until(lambda: 200_000_000 in made[0].looks, "a look at the third image")
    send_one_by_one(bench, range(300, 500, 100), before=3)
    bench.wait_for_value("frames dropped", "1")
    for _ in range(3):
        made[0].opened.release()
    ros.wait_until(lambda: len(labels) == 4, "four label images")
    assert [m.header for m in labels] == [header(s) for s in (0, 100, 200, 400)]


def test_all_takes_every_image_in_order(ros: RosSession, start: Start) -> None:
    bench, made = start_with_valve(start, "all", 100)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    stamps = range(0, 1000, 100)
    for stamp in stamps:
        bench.send(stamp)
    bench.wait_for_value("frames in", "10")
    for _ in stamps:
        made[0].opened.release()
    ros.wait_until(lambda: len(labels) == 10, "ten label images")
    assert [m.header for m in labels] == [header(s) for s in stamps]
    assert bench.diagnostics()["frames dropped"] == "0"
    assert not any(made[0].hurried)


def test_all_drops_the_newcomers_of_a_full_queue_and_tells(ros: RosSession, start: Start) -> None:
    bench, made = start_with_valve(start, "all", 2)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(0)
    assert made[0].begun.acquire(timeout=60)
    send_one_by_one(bench, range(100, 500, 100), before=1)
    bench.wait_for_value("frames dropped", "2")
    bench.wait_for_log("queue_size")
    assert bench.log.count("queue_size") == 1
    ros.wait_until(lambda: bench.status().level == DiagnosticStatus.OK, "OK after the report")
    for _ in range(3):
        made[0].opened.release()
    ros.wait_until(lambda: len(labels) == 3, "three label images")
    assert [m.header for m in labels] == [header(0), header(100), header(200)]


def test_deactivation_finishes_the_frame_in_hand(ros: RosSession, start: Start) -> None:
    bench, made = start_with_valve(start, "all", 10)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    send_one_by_one(bench, range(0, 300, 100), before=0)
    assert made[0].begun.acquire(timeout=60)
    threading.Timer(0.2, made[0].opened.release).start()
    assert bench.change("deactivate")
    ros.wait_until(lambda: labels, "the label image of the frame in hand")
    bench.wait_for_value("frames dropped", "2")
    assert bench.diagnostics()["state"] == "inactive"
