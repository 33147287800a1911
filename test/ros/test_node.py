"""One image in, everything out: topics, encodings, headers, services, diagnostics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from harness import CAR_BOX, HEIGHT, LATCHED, RELIABLE, WIDTH, Harness, Start, header
from ros_session import RosSession
from sam2vss_ros.msg import ClassCatalog, TrackedObject, TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.srv import AddPrompt, RemoveObject

IMAGES = {
    "label_image": ("mono8", np.uint8),
    "confidence_image": ("mono8", np.uint8),
    "instance_image": ("mono16", np.uint16),
    "overlay": ("rgb8", np.uint8),
}


def pixels(message: Image) -> np.ndarray:
    """The array of a message without row padding."""
    encoding, channels = message.encoding, 3 if message.encoding == "rgb8" else 1
    array = np.frombuffer(message.data, np.uint16 if encoding == "mono16" else np.uint8)
    assert message.step * message.height == array.nbytes
    return array.reshape(message.height, message.width, channels).squeeze(
        -1 if channels == 1 else ()
    )


def call(bench: Harness, kind: Any, name: str, **request: Any) -> Any:
    """Call a service of the node."""
    client = bench.ears.create_client(kind, f"/vss/{name}")
    return bench.ros.call(client, kind.Request(**request))


def test_every_topic_answers_one_image_under_its_header(ros: RosSession, start: Start) -> None:
    bench = start(discovery="off")  # all places are for prompts
    outputs: dict[str, list[Any]] = {n: bench.record(f"/vss/{n}", Image) for n in IMAGES}
    outputs["objects"] = bench.record("/vss/objects", TrackedObjectArray)
    outputs["camera_info"] = bench.record("/vss/camera_info", CameraInfo)
    infos = bench.camera.create_publisher(CameraInfo, "camera_info", RELIABLE)
    bench.active()
    ros.wait_until(lambda: infos.get_subscription_count(), "the subscription of camera_info")
    infos.publish(CameraInfo(width=WIDTH, height=HEIGHT, k=[100.0, 0, 80, 0, 100, 60, 0, 0, 1]))
    # The first image may come before the calibration, and a prompt needs one to point at.
    for i in range(3):
        bench.send(100 * i)
        bench.wait_for_value("frames processed", str(i + 1))
        if i == 0:
            assert call(bench, AddPrompt, "add_prompt", box=CAR_BOX).success
    for name, messages in outputs.items():
        assert bench.wait_for_answer(messages, 200), name
    for name, (encoding, dtype) in IMAGES.items():
        message = outputs[name][-1]
        assert (message.encoding, message.width, message.height) == (encoding, WIDTH, HEIGHT)
        assert pixels(message).dtype == dtype
    assert outputs["camera_info"][-1].k[2] == 80

    catalog = load_catalog("camvid")
    labels = np.unique(pixels(outputs["label_image"][-1]))
    assert set(labels.tolist()) <= {*catalog.ids.tolist(), 255}
    array = outputs["objects"][-1]
    assert (array.width, array.height) == (WIDTH, HEIGHT)
    visible = [o for o in array.objects if o.area]
    assert visible, "the car that was pointed at"
    for tracked in visible:
        assert_object(tracked, pixels(outputs["instance_image"][-1]), len(catalog))


def assert_object(tracked: TrackedObject, instances: np.ndarray, classes: int) -> None:
    """The object is consistent, also with the instance image."""
    box = tracked.box
    mask = np.unpackbits(tracked.mask, count=box.height * box.width).reshape(box.height, box.width)
    assert mask.sum() == tracked.area
    assert mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
    assert len(tracked.class_probabilities) == classes
    y, x = np.nonzero(instances == tracked.track_id)
    if len(x):  # not hidden by others
        assert box.x_offset <= x.min() and x.max() < box.x_offset + box.width
        assert box.y_offset <= y.min() and y.max() < box.y_offset + box.height


@pytest.mark.parametrize(("carry", "carried"), [("auto", "1"), ("off", "0")])
def test_an_image_between_looks_is_answered_like_any_other(
    start: Start, carry: str, carried: str
) -> None:
    bench = start(discovery="off", carry=carry)
    outputs: dict[str, list[Any]] = {n: bench.record(f"/vss/{n}", Image) for n in IMAGES}
    outputs["objects"] = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    assert call(bench, AddPrompt, "add_prompt", box=CAR_BOX).success
    for i, milliseconds in enumerate((66, 99), 2):  # the car moves by a pixel in 33 ms
        bench.send(milliseconds)
        bench.wait_for_value("frames processed", str(i))
    bench.wait_for_value("frames carried", carried)
    for name, messages in outputs.items():
        bench.wait_for_answer(messages, 99)
        assert len(messages) == 3, name
    before, after = (array.objects[0] for array in outputs["objects"][1:])
    assert after.age == before.age + 1 and after.area == pytest.approx(before.area, rel=0.1)
    assert after.centroid_x - before.centroid_x == pytest.approx(1, abs=1)


def test_output_size(ros: RosSession, start: Start) -> None:
    bench = start(output_width=80)
    labels = bench.record("/vss/label_image", Image)
    infos = bench.record("/vss/camera_info", CameraInfo)
    overlays = bench.record("/vss/overlay", Image)
    camera = bench.camera.create_publisher(CameraInfo, "camera_info", RELIABLE)
    bench.active()
    ros.wait_until(camera.get_subscription_count, "the subscription of camera_info")
    for i in range(100):  # until the calibration has come before an image
        camera.publish(
            CameraInfo(width=WIDTH, height=HEIGHT, k=[100.0, 0, 80, 0, 100, 60, 0, 0, 1])
        )
        bench.send(i)
        bench.wait_for_value("frames processed", str(i + 1))
        if infos:
            break
    ros.wait_until(lambda: labels and infos and overlays, "the outputs")
    assert (labels[0].width, labels[0].height) == (80, 60)
    assert (infos[0].width, infos[0].height, infos[0].k[2]) == (80, 60, 40)
    assert (overlays[0].width, overlays[0].height) == (WIDTH, HEIGHT)
    assert bench.set(output_width=40, output_height=40)[0].successful
    bench.send(1000)
    ros.wait_until(lambda: labels[-1].header == header(1000), "the label image")
    assert (labels[-1].width, labels[-1].height) == (40, 40)


def test_unlabelled_id_beyond_8_bits_makes_mono16(ros: RosSession, start: Start) -> None:
    bench = start(unlabelled_id=1000)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(0)
    ros.wait_until(lambda: labels, "a label image")
    assert labels[0].encoding == "mono16"
    assert set(np.unique(pixels(labels[0])).tolist()) <= {*range(256), 1000}


def test_catalog_reaches_a_late_subscriber(ros: RosSession, start: Start) -> None:
    bench = start().active()
    late = bench.record("/vss/class_catalog", ClassCatalog, LATCHED)
    ros.wait_until(lambda: late, "the catalog")
    catalog = load_catalog("camvid")
    assert late[0].name == catalog.name
    assert late[0].unlabelled_id == 255
    assert [(e.id, e.name, (e.r, e.g, e.b), e.thing) for e in late[0].entries] == [
        (c.id, c.name, c.color, c.thing) for c in catalog.classes
    ]


def test_tracking_goes_on_without_subscribers(ros: RosSession, start: Start) -> None:
    bench = start(discovery="off").active()
    for i in range(3):
        bench.send(100 * i)
        bench.wait_for_value("frames processed", str(i + 1))
        if i == 0:
            assert call(bench, AddPrompt, "add_prompt", box=CAR_BOX).success
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    bench.send(300)
    ros.wait_until(lambda: objects, "objects")
    assert max(o.age for o in objects[0].objects) >= 2


def test_subscriber_that_vanishes(ros: RosSession, start: Start) -> None:
    bench = start()
    stays = bench.record("/vss/objects", TrackedObjectArray)
    seen = bench.record("/vss/label_image", Image)
    (subscription,) = (s for s in bench.ears.subscriptions if s.topic_name == "/vss/label_image")
    bench.active()
    bench.send(0)
    ros.wait_until(lambda: stays and seen, "the first answer")
    bench.send(100)
    bench.ears.destroy_subscription(subscription)
    for milliseconds in (200, 300, 400):
        bench.send(milliseconds)
        bench.wait_for_answer(stays, milliseconds)
    assert bench.diagnostics()["frames failed"] == "0"


def test_enable(start: Start) -> None:
    bench = start(start_enabled=False).active()
    assert bench.diagnostics()["state"] == "disabled"
    bench.send(0)
    answer = call(bench, SetBool, "enable", data=True)
    assert (answer.success, answer.message) == (True, "enabled")
    bench.send(100)
    bench.wait_for_value("frames processed", "1")
    assert call(bench, SetBool, "enable", data=False).success
    bench.send(200)
    bench.wait_for_value("state", "disabled")
    assert bench.diagnostics()["frames in"] == "1"


def test_prompt_remove_reset(ros: RosSession, start: Start) -> None:
    bench = start(discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()

    def ids_at(milliseconds: int) -> set[int]:
        bench.send(milliseconds)
        ros.wait_until(lambda: objects and objects[-1].header == header(milliseconds), "objects")
        return {o.track_id for o in objects[-1].objects}

    assert ids_at(0) == set()
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[70:90, 40:60] = 1
    added = [
        call(bench, AddPrompt, "add_prompt", box=CAR_BOX, class_name="Car"),
        call(
            bench, AddPrompt, "add_prompt", points=[20.0, 20.0, 140.0, 100.0], point_labels=[1, 0]
        ),
        call(bench, AddPrompt, "add_prompt", mask=image_message(mask, "mono8", header(0))),
    ]
    assert [a.success for a in added] == [True] * 3, [a.message for a in added]
    ids = {a.track_id for a in added}
    assert len(ids) == 3
    assert ids_at(100) == ids

    gone = added[0].track_id
    answer = call(bench, RemoveObject, "remove_object", track_id=gone)
    assert (answer.success, answer.message) == (True, f"object {gone} is forgotten")
    assert ids_at(200) == ids - {gone}
    answer = call(bench, RemoveObject, "remove_object", track_id=gone)
    assert (answer.success, answer.message) == (False, f"object {gone} is not in memory")

    assert call(bench, Trigger, "reset").success
    assert ids_at(300) == set()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "a prompt has points, a box or a mask"),
        ({"box": [1.0, 2.0, 3.0, 4.0], "points": [1.0, 1.0], "point_labels": [1]}, "a prompt has"),
        ({"box": [1.0, 2.0, 3.0]}, "a box is x0, y0, x1, y1, not 3 numbers"),
        ({"box": [9.0, 9.0, 3.0, 4.0]}, "a box is x0 < x1"),
        ({"box": [1.0, 2.0, float("nan"), 4.0]}, "finite"),
        ({"points": [1.0, 2.0, 3.0], "point_labels": [1]}, "pairs of x and y, not 3 numbers"),
        ({"points": [1.0, 2.0], "point_labels": []}, "every point needs a label"),
        ({"points": [1.0, 2.0], "point_labels": [7]}, "point labels are 0 or 1"),
        ({"box": CAR_BOX, "class_name": "Unicorn"}, "no class 'Unicorn'; there are"),
        ({"mask": Image(encoding="rgb8", height=1, width=1, step=3, data=[1, 1, 1])}, "mono8"),
        ({"mask": Image(encoding="mono8", height=9, width=9, step=9, data=[1])}, "truncated"),
        ({"mask": Image(encoding="mono8", height=1, width=1, step=1, data=[1])}, "1 x 1 pixels"),
        ({"box": [500.0, 500.0, 600.0, 600.0]}, "is not inside 160 x 120"),
    ],
)
def test_prompts_that_are_refused(start: Start, request_: dict[str, Any], message: str) -> None:
    bench = start().active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    answer = call(bench, AddPrompt, "add_prompt", **request_)
    assert not answer.success
    assert message in answer.message
    assert answer.track_id == 0
    bench.send(100)
    bench.wait_for_value("frames processed", "2")


def test_prompt_into_a_full_memory(start: Start) -> None:
    bench = start(max_objects=1, discovery="off").active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    assert call(bench, AddPrompt, "add_prompt", box=CAR_BOX).success
    answer = call(bench, AddPrompt, "add_prompt", box=CAR_BOX)
    assert not answer.success
    assert "max_objects" in answer.message


def test_diagnostics(start: Start) -> None:
    bench = start().active()
    for i in range(3):
        bench.send(100 * i)
        bench.wait_for_value("frames processed", str(i + 1))
    status = bench.status()
    assert status.level == DiagnosticStatus.OK
    assert status.name == "vss: video semantic segmentation"
    assert (status.hardware_id, status.message) == ("cpu", "active")
    values = bench.diagnostics()
    assert (values["model"], values["device"], values["overload"]) == ("mobile", "cpu", "latest")
    assert (values["frames in"], values["frames dropped"], values["frames failed"]) == (
        "3",
        "0",
        "0",
    )
    assert float(values["rate (Hz)"]) > 0
    for stage in ("encode", "track", "discover", "classify", "fuse"):
        assert 0 <= float(values[f"{stage} p50 (ms)"]) <= float(values[f"{stage} p95 (ms)"])
    assert float(values["arrival to publish p50 (ms)"]) > float(values["encode p50 (ms)"])
    assert float(values["object memory (MB)"]) >= 0
    assert float(values["resident memory (MB)"]) > 50
