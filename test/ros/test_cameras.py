"""Several cameras on one node: topics, fairness, independence, memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from harness import CAR_BOX, LATCHED, RELIABLE, Harness, Start, header, street
from pipelines import open_pipeline
from ros_session import RosSession
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.msg import ClassCatalog, TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt, RemoveObject
from sam2vss_ros.types import Frame

QUICK = {"max_objects": 2, "discovery": "off"}


class Camera:
    """A camera `name` before a node with several, and ears for its answers."""

    def __init__(self, bench: Harness, name: str) -> None:
        self.bench, self.name = bench, name
        self.labels = bench.record(f"/vss/{name}/label_image", Image)
        self.objects = bench.record(f"/vss/{name}/objects", TrackedObjectArray)
        self.start()

    def start(self) -> None:
        self.node = self.bench.ros.node(f"{self.name}_camera")
        self.publisher = self.node.create_publisher(Image, f"{self.name}/image", RELIABLE)

    def ready(self) -> None:
        self.bench.ros.wait_until(self.publisher.get_subscription_count, "a subscription")

    def send(self, milliseconds: int, shift: int = 0) -> None:
        message = image_message(street(shift=shift), "rgb8", header(milliseconds))
        self.publisher.publish(message)

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client = self.bench.ears.create_client(kind, f"/vss/{self.name}/{service}")
        return self.bench.ros.call(client, request)

    def answer(self, milliseconds: int) -> TrackedObjectArray:
        return self.bench.wait_for_answer(self.objects, milliseconds)

    def status(self) -> DiagnosticStatus:
        bench = self.bench
        bench.ros.wait_until(lambda: bench._statuses, "diagnostics")
        (found,) = (s for s in bench._statuses[-1].status if f"vss/{self.name}:" in s.name)
        return found

    def values(self) -> dict[str, str]:
        return {v.key: v.value for v in self.status().values}

    def wait_for_value(self, key: str, value: str) -> None:
        self.bench.ros.wait_until(
            lambda: self.values().get(key) == value, lambda: f"{key} = {value}: {self.values()}"
        )


def start_cameras(start: Start, *names: str, **options: Any) -> tuple[Harness, list[Camera]]:
    bench = start(camera_qos=None, cameras=list(names), **(QUICK | options))
    cameras = [Camera(bench, name) for name in names]
    bench.active()
    for camera in cameras:
        camera.ready()
    return bench, cameras


def test_every_camera_has_its_own_topics_and_services(ros: RosSession, start: Start) -> None:
    bench, _ = start_cameras(start, "front", "rear")
    topics = {name for name, _ in bench.ears.get_topic_names_and_types()}
    services = {name for name, _ in bench.ears.get_service_names_and_types()}
    for name in ("front", "rear"):
        assert {f"/{name}/image", f"/{name}/camera_info"} <= topics
        outputs = ("label_image", "confidence_image", "instance_image", "objects", "overlay")
        for output in (*outputs, "camera_info", "class_catalog"):
            assert f"/vss/{name}/{output}" in topics
        for service in ("enable", "reset", "add_prompt", "remove_object"):
            assert f"/vss/{name}/{service}" in services
    assert not {"/image", "/vss/label_image"} & topics and "/vss/reset" not in services
    catalogs = bench.record("/vss/rear/class_catalog", ClassCatalog, LATCHED)
    ros.wait_until(lambda: catalogs, "the catalog")
    bench.status()
    assert [s.name for s in bench._statuses[-1].status] == [
        "vss/front: video semantic segmentation",
        "vss/rear: video semantic segmentation",
    ]


def test_prompts_ids_and_resets_are_of_one_camera(start: Start) -> None:
    _, (front, rear) = start_cameras(start, "front", "rear")
    for camera in (front, rear):
        camera.send(100)
        camera.answer(100)
    asked = front.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX))
    assert asked.success and asked.track_id == 1
    for camera in (front, rear):
        camera.send(200)
    assert [o.track_id for o in front.answer(200).objects] == [1]
    assert not rear.answer(200).objects
    asked = rear.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX))
    assert asked.success and asked.track_id == 1, "ids are counted by camera"
    assert front.call(Trigger, "reset", Trigger.Request()).success
    for camera in (front, rear):
        camera.send(300)
    assert not front.answer(300).objects
    assert [o.track_id for o in rear.answer(300).objects] == [1]
    assert not front.call(RemoveObject, "remove_object", RemoveObject.Request(track_id=1)).success
    assert rear.call(RemoveObject, "remove_object", RemoveObject.Request(track_id=1)).success


def test_a_camera_that_is_disabled_leaves_the_other_alone(start: Start) -> None:
    _, (front, rear) = start_cameras(start, "front", "rear")
    assert front.call(SetBool, "enable", SetBool.Request(data=False)).success
    for camera in (front, rear):
        camera.send(100)
    rear.answer(100)
    rear.wait_for_value("frames processed", "1")
    front.wait_for_value("state", "disabled")
    assert front.values()["frames in"] == "0"


def test_both_are_served_alike_whatever_their_rates(ros: RosSession, start: Start) -> None:
    """Both are faster than the node; one three times as fast as the other."""
    _, (front, rear) = start_cameras(start, "front", "rear")
    stamp, end = 0, time.monotonic() + 60
    while min(len(front.labels), len(rear.labels)) < 25 and time.monotonic() < end:
        stamp += 1
        front.send(stamp, stamp % 8)
        if stamp % 3 == 0:
            rear.send(stamp, stamp % 8)
        time.sleep(0.004)
    counts = len(front.labels), len(rear.labels)
    assert min(counts) >= 25
    assert abs(counts[0] - counts[1]) <= 0.1 * sum(counts) / 2 + 1, counts


def test_a_camera_that_dies_and_returns_changes_nothing_for_the_other(
    ros: RosSession, start: Start
) -> None:
    """The front camera's labels are to the byte those of a pipeline that has it to itself."""
    options: dict[str, Any] = {"discovery": "regions", "keyframe_interval": 4}
    options |= {"image_size": 256, "max_objects": 2}
    _, (front, rear) = start_cameras(start, "front", "rear", overload="all", **options)
    for i in range(12):
        if i == 4:
            ros.remove(rear.node)
        if i == 8:
            rear.start()
            rear.ready()
        if not 4 <= i < 8:
            rear.send(9000 - 5000 * (i >= 8) + i, shift=3 * i)
        front.send(100 * i, shift=2 * i)
    front.answer(1100)
    rear.wait_for_value("frames processed", "8")
    rear.wait_for_value("stream resets", "1")
    ros.wait_until(lambda: len(front.labels) == 12, "all label images")

    alone = open_pipeline(PipelineConfig(threads=1, device="cpu", **options))
    for i, message in enumerate(front.labels):
        expected = alone.process(Frame(street(shift=2 * i), 100_000_000 * i)).label_image
        assert message.header == header(100 * i)
        assert bytes(message.data) == expected.tobytes()


def test_a_silent_camera_is_stale_and_gives_its_memory_back(ros: RosSession, start: Start) -> None:
    options = {"no_image_warning": 0.5, "release_after": 0.5}
    bench, (front, rear) = start_cameras(start, "front", "rear", **options)
    front.send(100)
    front.answer(100)
    ros.wait_until(lambda: front.values()["object memory (MB)"] != "0.0", "a memory bank")
    held = front.values()["object memory (MB)"]
    asked = front.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX))
    front.send(200)
    assert [o.track_id for o in front.answer(200).objects] == [asked.track_id]
    ros.wait_until(lambda: front.status().level == DiagnosticStatus.STALE, "a stale camera")
    assert front.status().message.startswith("no image for 0.5 s:")
    front.wait_for_value("object memory (MB)", "0.0")
    rear.send(100)
    rear.answer(100)
    front.send(300)
    assert not front.answer(300).objects
    front.wait_for_value("object memory (MB)", held)
    asked = front.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX))
    assert asked.success and asked.track_id == 2, "ids go on"


def test_broken_images_are_counted_for_their_camera(start: Start) -> None:
    _, (front, rear) = start_cameras(start, "front", "rear")
    front.publisher.publish(Image(header=header(100), encoding="nonsense"))
    rear.send(100)
    rear.answer(100)
    front.wait_for_value("failed: unknown encoding", "1")
    assert rear.values()["frames failed"] == "0"


def test_options_change_for_all_cameras(start: Start) -> None:
    bench, cameras = start_cameras(start, "front", "rear")
    assert bench.set(min_class_score=1.0)[0].successful
    for camera in cameras:
        camera.send(100)
        camera.answer(100)
        bench.wait_for_answer(camera.labels, 100)
        assert (np.frombuffer(camera.labels[-1].data, np.uint8) == 255).any()


def test_calibrations_are_scaled_by_camera(ros: RosSession, start: Start) -> None:
    bench, (front, rear) = start_cameras(start, "front", "rear", output_width=80)
    infos = bench.record("/vss/rear/camera_info", CameraInfo)
    ours = rear.node.create_publisher(CameraInfo, "rear/camera_info", RELIABLE)
    ros.wait_until(ours.get_subscription_count, "a subscription")
    ours.publish(CameraInfo(width=160, height=120))
    for stamp in range(100, 5000, 100):
        rear.send(stamp)
        rear.answer(stamp)
        if infos:
            break
    assert (infos[0].width, infos[0].height) == (80, 60)


@pytest.mark.parametrize(
    ("cameras", "said"),
    [
        (["front", "front"], "cameras: front, front: each name counts once"),
        (["front cam"], "cameras: 'front cam' is no name"),
        ([""], "cameras: '' is no name"),
    ],
)
def test_names_that_do_not_do_are_refused(start: Start, cameras: list[str], said: str) -> None:
    bench = start(camera_qos=None, cameras=cameras)
    bench.wait_for_log("cannot configure")
    assert said in bench.log


def test_an_empty_list_of_a_file_means_one_camera(start: Start, tmp_path: Any) -> None:
    path = tmp_path / "vss.yaml"
    path.write_text("/**:\n  ros__parameters:\n    cameras: []\n")
    bench = start(cli_args=["--ros-args", "--params-file", str(path)]).active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")


def test_what_a_user_asks_of_one_camera_displaces_what_it_found(start: Start) -> None:
    """Two prompts between two images; then all places are the user's. The other camera goes on."""
    _, (front, rear) = start_cameras(
        start, "front", "rear", discovery="regions", keyframe_interval=2, min_class_score=0.0
    )

    def ids_at(milliseconds: int) -> list[list[int]]:
        for camera in (front, rear):
            camera.send(milliseconds)
        answers = (camera.answer(milliseconds) for camera in (front, rear))
        return [[o.track_id for o in answer.objects] for answer in answers]

    found = [ids_at(100 * i) for i in range(4)][-1]
    assert [len(ids) for ids in found] == [2, 2], "both are full"
    boxes = (CAR_BOX, [100.0, 5.0, 150.0, 50.0])
    added = [front.call(AddPrompt, "add_prompt", AddPrompt.Request(box=box)) for box in boxes]
    assert all(answer.success for answer in added), [answer.message for answer in added]
    asked = [answer.track_id for answer in added]
    for i in range(4, 8):
        assert ids_at(100 * i) == [asked, found[1]]
    refused = front.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX))
    assert not refused.success
    assert refused.message == (
        "max_objects: all 2 places are taken by objects that users asked for; remove one of them "
        "first"
    )
    assert rear.call(AddPrompt, "add_prompt", AddPrompt.Request(box=CAR_BOX)).success


def test_disorder_of_one_camera_is_its_own(start: Start) -> None:
    _, (front, rear) = start_cameras(start, "front", "rear")
    for camera in (front, rear):
        camera.send(1000)
        camera.answer(1000)
    for i in range(1, 4):
        front.send(1000 - i)
        front.wait_for_value("frames out of order", str(i))
        rear.send(1000 + i)
        rear.answer(1000 + i)
    assert front.values()["frames processed"] == "1"
    assert rear.values()["frames out of order"] == "0"
