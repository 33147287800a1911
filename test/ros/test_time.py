"""Time that is not perfect: images out of order, without stamps, of two cameras on one topic."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image

from harness import CAR_BOX, RELIABLE, Harness, Start, header, street
from ros_session import RosSession
from sam2vss_ros.msg import TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt


def follow_the_car(bench: Harness, objects: list[TrackedObjectArray]) -> int:
    """Send an image taken at 1000 ms and ask for the car; returns its id."""
    bench.send(1000)
    bench.wait_for_answer(objects, 1000)
    client = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    answer = bench.ros.call(client, AddPrompt.Request(box=CAR_BOX))
    assert answer.success
    return int(answer.track_id)


def send_all(bench: Harness, stamps: list[int], before: int = 1) -> None:
    """Send images of one car that stands still, each once the one before is done with."""
    for count, stamp in enumerate(stamps, before + 1):
        bench.send(stamp, image_message(street(), "rgb8", header(0)))
        wait_until_done(bench, count)


def wait_until_done(bench: Harness, count: int) -> None:
    """Wait until so many images are processed, dropped or failed."""

    def done() -> bool:
        values = bench.diagnostics()
        kinds = ("processed", "dropped", "failed")
        return sum(int(values[f"frames {kind}"]) for kind in kinds) == count

    bench.ros.wait_until(done, lambda: f"{count} images to be done with: {bench.diagnostics()}")


def levels_of(bench: Harness, text: str) -> set[bytes]:
    """The levels of all reports so far that say `text`."""
    reports = [m.status[0] for m in bench.reports]
    return {s.level for s in reports if text in s.message}


@pytest.mark.parametrize("overload", ["latest", "all"])
def test_images_out_of_order_are_dropped_and_ids_go_on(
    start: Start, ros: RosSession, overload: str
) -> None:
    """Every second image is 10 ms older than the one before, as some drivers send them."""
    bench = start(discovery="off", overload=overload)
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    car = follow_the_car(bench, objects)
    stamps = [1000 + 33 * (i // 2) - 10 * (i % 2) for i in range(2, 42)]
    send_all(bench, stamps)

    ros.wait_until(lambda: len(objects) == 21, "the answers to all that are in order")
    answered = [m.header.stamp.sec * 1000 + m.header.stamp.nanosec // 10**6 for m in objects]
    assert answered == [1000, *stamps[::2]]
    assert all([o.track_id for o in m.objects] == [car] for m in objects[1:])
    values = bench.diagnostics()
    assert (values["frames out of order"], values["frames dropped"]) == ("20", "20")
    assert (values["frames failed"], values["stream resets"]) == ("0", "0")
    assert bench.log.count("out of order dropped (logged once, counted on)") == 1
    assert levels_of(bench, "frames out of order dropped") == {DiagnosticStatus.WARN}


def test_only_a_larger_step_back_is_a_new_stream(start: Start, ros: RosSession) -> None:
    bench = start(discovery="off", max_step_back=0.2)
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    car = follow_the_car(bench, objects)
    send_all(bench, [1100, 900, 1000, 1200])
    assert [o.track_id for o in bench.wait_for_answer(objects, 1200).objects] == [car]
    assert bench.diagnostics()["stream resets"] == "0"

    send_all(bench, [999], before=5)
    assert not bench.wait_for_answer(objects, 999).objects
    bench.wait_for_log("time went back by 0.201 s: the stream begins anew")
    send_all(bench, [700, 400], before=6)
    bench.wait_for_value("stream resets", "3")
    assert bench.log.count("the stream begins anew") == 1
    assert levels_of(bench, "stream resets: 1") == {DiagnosticStatus.WARN}


@pytest.mark.parametrize("stamp", [0, 5000])
def test_a_camera_whose_stamps_stand_still(start: Start, ros: RosSession, stamp: int) -> None:
    """Its images go by their arrival, under the headers that they came with."""
    bench = start(discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    bench.send(stamp)
    bench.wait_for_answer(objects, stamp)
    client = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    car = ros.call(client, AddPrompt.Request(box=CAR_BOX)).track_id
    send_all(bench, [stamp] * 9)

    # The second image with one stamp may be the first one once more, but for a stamp of 0.
    failed = 0 if stamp == 0 else 1
    ros.wait_until(lambda: len(objects) == 10 - failed, "the answers")
    assert all([o.track_id for o in m.objects] == [car] for m in objects[1:])
    assert all(m.header == header(stamp) for m in objects)
    values = bench.diagnostics()
    assert values["frames failed"] == str(failed)
    assert values["frames without stamp"] == str(9 - failed)
    assert "capture to publish p50 (ms)" in values, "of the first image"
    assert [values[f"{kind}s"] for kind in ("stream reset", "time jump")] == ["0", "0"]
    assert bench.log.count("the camera does not stamp its images") == 1
    assert levels_of(bench, "frames without a stamp go by their arrival") == {DiagnosticStatus.WARN}


def test_a_stamp_that_is_missing_once_does_no_harm(start: Start, ros: RosSession) -> None:
    bench = start(discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    car = follow_the_car(bench, objects)
    send_all(bench, [1100, 0, 9000])
    assert [o.track_id for o in bench.wait_for_answer(objects, 9000).objects] == [car]
    values = bench.diagnostics()
    assert (values["frames processed"], values["frames without stamp"]) == ("4", "1")
    assert values["stream resets"] == "0"


def test_two_publishers_on_one_topic(start: Start, ros: RosSession) -> None:
    """Of images of two sizes, in turn: told once, counted, and seen in the level."""
    bench = start(discovery="off")
    second = ros.node("second_camera")
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    assert "publishers on" not in bench.log
    images = second.create_publisher(Image, "image", RELIABLE)
    ros.wait_until(images.get_subscription_count, "the node's subscription")
    expected = "2 publishers on /image: /camera, /second_camera"
    bench.wait_for_log(expected)
    for i in range(10):
        message = image_message(street(96, 72), "rgb8", header(0))
        if i % 2:
            message.header = header(100 * i)
            images.publish(message)
        else:
            bench.send(100 * i)
        bench.wait_for_answer(labels, 100 * i)
    bench.wait_for_value("size changes", "9")
    assert bench.log.count("publishers on /image") == 1
    assert bench.log.count("the image size changed from") == 1
    assert levels_of(bench, expected) == {DiagnosticStatus.WARN}
    assert DiagnosticStatus.WARN in levels_of(bench, "size changes: ")
    ros.remove(second)
    ros.wait_until(lambda: bench.status().level == DiagnosticStatus.OK, "OK with one publisher")


def test_a_slow_camera_does_not_fill_the_log(start: Start, ros: RosSession) -> None:
    """Each of its images comes after a silence that is told."""
    bench = start(no_image_warning=0.5)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    for i in range(3):
        ros.wait_until(lambda: "no image for 0.5 s" in bench.status().message, "the silence")
        bench.send(1000 * i)
        bench.wait_for_answer(labels, 1000 * i)
        ros.wait_until(lambda: "no image" not in bench.status().message, "an image")
    assert bench.log.count("no image for 0.5 s") == 1
    assert bench.log.count("images come on /image") == 1
