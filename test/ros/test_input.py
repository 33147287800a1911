"""What cameras do to the node: transports, QoS, silence, broken frames, time that jumps."""

from __future__ import annotations

import functools
import time
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from harness import BEST_EFFORT, CAR_BOX, HEIGHT, RELIABLE, WIDTH, Harness, Start, header, street
from ros_session import RosSession
from sam2vss_ros.msg import TrackedObject, TrackedObjectArray
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt
from sam2vss_ros.types import Frame, SemanticFrame
from small_sam2 import SMALL_SAM2


def jpeg(milliseconds: int, cut: int = 0) -> CompressedImage:
    """The street as a JPEG, without its last `cut` bytes."""
    data = cv2.imencode(".jpg", street()[..., ::-1])[1].tobytes()
    message = CompressedImage(header=header(milliseconds), format="rgb8; jpeg compressed bgr8")
    message.data = data[: len(data) - cut]
    return message


def test_compressed_input(ros: RosSession, start: Start) -> None:
    bench = start(camera_qos=None, image_transport="compressed")
    camera = bench.camera.create_publisher(CompressedImage, "image/compressed", RELIABLE)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    ros.wait_until(camera.get_subscription_count, "the subscription of image/compressed")
    camera.publish(jpeg(0))
    ros.wait_until(lambda: labels, "a label image")
    assert (labels[0].width, labels[0].height) == (WIDTH, HEIGHT)
    camera.publish(jpeg(100, cut=300))
    bench.wait_for_value("failed: corrupt image", "1")
    camera.publish(jpeg(200))
    bench.wait_for_value("frames processed", "2")
    bench.wait_for_log("the JPEG is cut off after")


def test_remapped_compressed_input(ros: RosSession, start: Start) -> None:
    bench = start(
        camera_qos=None,
        image_transport="compressed",
        cli_args=["--ros-args", "-r", "image:=/front/image_raw"],
    ).active()
    assert "/front/image_raw/compressed" in [s.topic_name for s in bench.node.subscriptions]


@pytest.mark.parametrize(
    ("camera", "reliability", "expected"),
    [
        (RELIABLE, "auto", ReliabilityPolicy.RELIABLE),
        (BEST_EFFORT, "auto", ReliabilityPolicy.BEST_EFFORT),
        (RELIABLE, "best_effort", ReliabilityPolicy.BEST_EFFORT),
        (RELIABLE, "reliable", ReliabilityPolicy.RELIABLE),
    ],
)
def test_reliability(
    start: Start, camera: QoSProfile, reliability: str, expected: ReliabilityPolicy
) -> None:
    bench = start(camera_qos=camera, input_reliability=reliability).active()
    bench.ros.wait_until(lambda: input_reliability(bench) == expected, f"{expected}")
    bench.active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")


def input_reliability(bench: Harness) -> ReliabilityPolicy:
    """The reliability that the node asks for, as the camera sees it."""
    found = bench.camera.get_subscriptions_info_by_topic("/image")
    bench.ros.wait_until(lambda: found, "a subscription")
    return found[0].qos_profile.reliability


def test_auto_follows_a_camera_that_comes_later(ros: RosSession, start: Start) -> None:
    bench = start(camera_qos=None).active()
    camera = bench.camera.create_publisher(Image, "image", RELIABLE)
    bench.wait_for_log("/image: now reliable")
    ros.wait_until(camera.get_subscription_count, "the subscription")
    camera.publish(image_message(street(), "rgb8", header(0)))
    bench.wait_for_value("frames processed", "1")


def test_silence_without_a_publisher(start: Start) -> None:
    bench = start(camera_qos=None, no_image_warning=0.5)
    bench.camera.create_publisher(Image, "elsewhere", RELIABLE)
    bench.active()
    bench.wait_for_log("no image for 0.5 s: nobody publishes on /image")
    bench.wait_for_log("images are published on /elsewhere")
    # The warning is in the next report; one made before it may still be on its way.
    bench.ros.wait_until(
        lambda: "nobody publishes on /image" in bench.status().message, "a report of the silence"
    )
    assert bench.status().level == DiagnosticStatus.WARN


def test_silence_for_lack_of_reliability(ros: RosSession, start: Start) -> None:
    bench = start(camera_qos=None, no_image_warning=0.5, input_reliability="reliable")
    bench.camera.create_publisher(Image, "image", BEST_EFFORT)
    bench.active()
    bench.wait_for_log("the QoS of /camera on /image does not fit ours")
    bench.wait_for_log("set input_reliability to auto or best_effort")


def test_silence_for_another_type(start: Start) -> None:
    stranger = RosSession()  # one DDS participant cannot have two types on one topic
    try:
        camera = stranger.node("stranger")
        camera.create_publisher(CompressedImage, "image", RELIABLE)
        bench = start(camera_qos=None, no_image_warning=0.5)
        bench.wait_for_log("/stranger publishes sensor_msgs/msg/CompressedImage on /image, not")
        bench.wait_for_log("is image_transport right?")
    finally:
        stranger.close()


def test_silence_of_a_camera_that_fits_and_its_end(start: Start) -> None:
    bench = start(no_image_warning=0.5).active()
    bench.wait_for_log("/image has a publisher whose QoS fits (/camera), but")
    bench.send(0)
    bench.wait_for_log("images come on /image")
    assert bench.log.count("whose QoS fits") == 1


def test_disabled_node_does_not_complain_of_silence(ros: RosSession, start: Start) -> None:
    bench = start(camera_qos=None, no_image_warning=0.5, start_enabled=False).active()
    end = time.monotonic() + 1.5  # three times the limit
    ros.wait_until(lambda: time.monotonic() > end, "time to pass")
    assert "no image" not in bench.log
    assert bench.status().level == DiagnosticStatus.OK
    enable = bench.ears.create_client(SetBool, "/vss/enable")
    assert ros.call(enable, SetBool.Request(data=True)).success
    bench.wait_for_log("no image for 0.5 s")


def test_broken_frames_are_counted_and_logged_once(start: Start) -> None:
    bench = start().active()
    good = image_message(street(), "rgb8", header(0))
    bench.send(0, good)
    bench.wait_for_value("frames processed", "1")
    broken: list[tuple[str, dict[str, Any]]] = [
        ("unknown encoding", {"encoding": "32FC1"}),
        ("zero size", {"height": 0}),
        ("truncated data", {"data": bytes(10)}),
    ]
    stamp = 0
    for reason, change in broken:
        for count in (1, 2):
            stamp += 100
            message = image_message(street(), "rgb8", header(0))
            for name, value in change.items():
                setattr(message, name, value)
            bench.send(stamp, message)
            bench.wait_for_value(f"failed: {reason}", str(count))
    assert bench.diagnostics()["frames failed"] == "6"
    for reason, _ in broken:
        assert bench.log.count(f"frame skipped ({reason};") == 1
    bench.send(stamp + 100, good)
    bench.wait_for_value("frames processed", "2")


def test_failures_show_in_the_level(ros: RosSession, start: Start) -> None:
    bench = start(diagnostics_period=0.2).active()
    levels: set[bytes] = set()

    def error_seen() -> bool:
        bench.send(len(levels), Image(encoding="nonsense"))
        levels.add(bench.status().level)
        return DiagnosticStatus.ERROR in levels

    ros.wait_until(error_seen, "an ERROR level while all frames fail")
    bench.wait_for_log("unknown encoding")
    ros.wait_until(lambda: bench.status().level == DiagnosticStatus.OK, "OK when nothing fails")


class Stumbling(VssPipeline):
    """Fails at the second frame, as a GPU that is out of memory does."""

    count = 0

    def process(self, frame: Frame, *args: Any) -> SemanticFrame:
        self.count += 1
        if self.count == 2:
            raise MemoryError("no memory left on the device")
        return super().process(frame, *args)


def test_unforeseen_error_costs_one_frame(start: Start) -> None:
    bench = start(make_pipeline=Stumbling).active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    bench.send(100)
    bench.wait_for_value("failed: error: MemoryError", "1")
    bench.wait_for_log("no memory left on the device")
    bench.send(200)
    bench.wait_for_value("frames processed", "2")


def test_two_frames_with_one_stamp(ros: RosSession, start: Start) -> None:
    bench = start()
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(100)
    bench.wait_for_value("frames processed", "1")
    bench.send(100)
    bench.wait_for_value("failed: stamp used twice", "1")
    bench.send(200)
    bench.wait_for_value("frames processed", "2")
    ros.wait_until(lambda: len(labels) == 2, "the label images")
    assert [m.header for m in labels] == [header(100), header(200)]


def ages(bench: Harness, objects: list[TrackedObjectArray], milliseconds: int) -> list[int]:
    """The ages of all objects after the image taken at this time."""
    return [o.age for o in bench.wait_for_answer(objects, milliseconds).objects]


def test_time_that_runs_backwards_begins_the_stream_anew(ros: RosSession, start: Start) -> None:
    bench = start(discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    follow_the_car(bench, objects, range(5000, 5300, 100))
    for stamp in (100, 200):  # a bag that loops
        bench.send(stamp)
        assert ages(bench, objects, stamp) == []
    assert bench.log.count("time went back by 5.100 s: the stream begins anew") == 1
    assert bench.log.count("the stream begins anew") == 1
    bench.wait_for_value("stream resets", "1")
    assert bench.diagnostics()["frames failed"] == "0"


def follow_the_car(bench: Harness, objects: list[TrackedObjectArray], stamps: range) -> None:
    """Send images at these times with one object in memory from the second on."""
    client = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    for i, stamp in enumerate(stamps):
        bench.send(stamp)
        assert len(ages(bench, objects, stamp)) == (i > 0)
        if i == 0:
            assert bench.ros.call(client, AddPrompt.Request(box=CAR_BOX)).success


@pytest.mark.parametrize(
    ("model", "width", "height"), [("mobile", 96, 72), ("mobile", 320, 240), (SMALL_SAM2, 96, 64)]
)
def test_image_size_that_changes(
    ros: RosSession, start: Start, model: str, width: int, height: int
) -> None:
    """A SAM 2 sees a square of every image, the other model its aspect."""
    bench = start(model=model, discovery="off")
    objects = bench.record("/vss/objects", TrackedObjectArray)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    follow_the_car(bench, objects, range(0, 200, 100))
    for stamp in (200, 300):
        bench.send(stamp, image_message(street(width, height), "rgb8", header(0)))
        assert len(ages(bench, objects, stamp)) == 1, "the same picture: the car is kept"
        answer = bench.wait_for_answer(labels, stamp)
        assert (answer.width, answer.height) == (width, height)
    said = f"image size changed from 160x120 to {width}x{height}: objects are kept"
    assert bench.log.count(said) == 1
    bench.wait_for_value("stream resets", "0")
    bench.wait_for_value("scene cuts", "0")


def test_scene_cuts_and_jumps_in_time_are_reported(ros: RosSession, start: Start) -> None:
    bench = start(discovery="off", confirm_frames=1)
    objects = bench.record("/vss/objects", TrackedObjectArray)
    bench.active()
    follow_the_car(bench, objects, range(0, 300, 100))
    negative = image_message(255 - street(), "rgb8", header(0))
    for stamp in (300, 400):
        bench.send(stamp, negative)
        (lost,) = bench.wait_for_answer(objects, stamp).objects
        assert lost.state == TrackedObject.LOST
    bench.send(9000, negative)
    bench.wait_for_answer(objects, 9000)
    bench.wait_for_value("scene cuts", "1")
    bench.wait_for_value("time jumps", "1")
    bench.wait_for_value("stream resets", "0")
    assert bench.log.count("scene cut (logged once, counted on): objects are lost") == 1
    assert bench.log.count("time jump (logged once, counted on): objects are kept") == 1


def test_simulated_time_that_loops(ros: RosSession, start: Start) -> None:
    bench = start(use_sim_time=True)
    labels = bench.record("/vss/label_image", Image)
    clock = bench.camera.create_publisher(Clock, "/clock", RELIABLE)
    bench.active()
    ros.wait_until(clock.get_subscription_count, "the subscription of /clock")
    now = bench.node.get_clock().now
    for milliseconds in (6000, 6100, 1000, 1100):
        stamp = header(milliseconds).stamp
        clock.publish(Clock(clock=stamp))
        ros.wait_until(functools.partial(lambda s: now().to_msg() == s, stamp), "simulated time")
        bench.send(milliseconds)
        bench.wait_for_answer(labels, milliseconds)
    bench.wait_for_value("frames processed", "4")
    assert bench.log.count("time went back by 5.100 s") == 1
    assert float(bench.diagnostics()["capture to publish p50 (ms)"]) == 0


@pytest.mark.parametrize("encoding", ["bgr8", "mono8", "mono16", "bayer_rggb8", "yuv422_yuy2"])
def test_encodings_reach_the_pipeline_as_rgb(start: Start, encoding: str) -> None:
    frames: list[Frame] = []

    class Watched(VssPipeline):
        def process(self, frame: Frame, *args: Any) -> SemanticFrame:
            frames.append(frame)
            return super().process(frame, *args)

    bench = start(make_pipeline=Watched).active()
    shape = {"bgr8": (HEIGHT, WIDTH, 3), "yuv422_yuy2": (HEIGHT, WIDTH, 2)}
    dtype = np.uint16 if encoding == "mono16" else np.uint8
    pixels = np.full(shape.get(encoding, (HEIGHT, WIDTH)), np.iinfo(dtype).max, dtype)
    if encoding == "bgr8":
        pixels[..., 1:] = 0  # pure blue
    bench.send(100, image_message(pixels, encoding, header(0)))
    bench.wait_for_value("frames processed", "1")
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].stamp_ns == 100_000_000
    if encoding == "bgr8":
        assert frames[0].image[0, 0].tolist() == [0, 0, 255]


def test_parameter_of_the_clock_is_left_alone(start: Start) -> None:
    bench = start(camera_qos=None).active()
    assert bench.node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful
