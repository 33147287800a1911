"""A thousand spoilt images, wire data and requests, each through the live node.

Real: every message goes over DDS to the node, whose pipeline labels what can be read. Wire data
that no middleware can read never reaches a node; what the others do is checked message by message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from harness import CAR_BOX, RELIABLE, Harness, Start, header, street
from mutations import Mutations
from resident import memory_back_to_its_level, memory_peak_below
from ros_session import RosSession
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt, RemoveObject

WIDTH, HEIGHT = 64, 48
SMALL = {"image_size": 64, "mode": "network", "overload": "all", "min_class_score": 0.0}
LOT = 25
"""Messages sent before it is waited for what becomes of them."""

LATER = 10_000_000
"""Milliseconds: after all stamps but the spoilt ones."""

STAMP = 12
"""Bytes of a serialized message up to the end of its stamp."""


def counts(bench: Harness) -> tuple[int, int]:
    """Images that came, and those of which something became."""
    values = bench.diagnostics()
    done = sum(int(values[f"frames {what}"]) for what in ("processed", "dropped", "failed"))
    return int(values["frames in"]), done


def wait_for_end(bench: Harness, came: int) -> None:
    """Wait until so many images have come and something has become of all."""
    bench.ros.wait_until(
        lambda: counts(bench) == (came, came),
        lambda: f"the end of {came} images: {bench.diagnostics()}, log: {bench.log[-3000:]}",
    )


def flood(
    bench: Harness, publish: Callable[[Any], None], messages: Iterable[tuple[Any, bool]]
) -> int:
    """Publish messages, each with whether it can be read; wait for the end of those that can.

    Returns how many these are.
    """
    stream, before = iter(messages), counts(bench)[0]
    came = before
    while lot := list(islice(stream, LOT)):
        for message, _ in lot:
            publish(message)
        came += sum(readable for _, readable in lot)
        wait_for_end(bench, came)
    return came - before


def answer_to_a_good_image(bench: Harness, labels: list[Any], send: Callable[[int], None]) -> bytes:
    """The labels of the street as the first image of a stream."""
    reset = bench.ears.create_client(Trigger, "/vss/reset")
    assert bench.ros.call(reset, Trigger.Request()).success
    send(LATER)
    return bytes(bench.wait_for_answer(labels, LATER).data)


def check_log(bench: Harness) -> None:
    """No line is long, no library's complaint comes as it is, and nothing is told over and over."""
    log = bench.log
    assert max(map(len, log.splitlines())) < 1000
    assert "Traceback" not in log
    assert len([line for line in log.splitlines() if "[vss]" in line]) < 60, log


def check_reasons(bench: Harness) -> None:
    """All that failed has a reason, and none is an error that nobody foresaw."""
    values = bench.diagnostics()
    reasons = {k: int(v) for k, v in values.items() if k.startswith("failed: ")}
    assert sum(reasons.values()) == int(values["frames failed"]) > 0
    assert not [reason for reason in reasons if "error: " in reason], (reasons, bench.log)


def encoded(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, street(WIDTH, HEIGHT)[..., ::-1])[1].tobytes())


@pytest.mark.parametrize(("suffix", "seed"), [(".png", 10), (".jpg", 11)])
def test_compressed_images(start: Start, suffix: str, seed: int) -> None:
    bench = start(camera_qos=None, image_transport="compressed", **SMALL)
    camera = bench.camera.create_publisher(CompressedImage, "image/compressed", RELIABLE)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.ros.wait_until(camera.get_subscription_count, "the subscription of image/compressed")
    whole = encoded(suffix)

    def compressed(stamp: int, data: bytes) -> CompressedImage:
        message = CompressedImage(
            header=header(stamp), format=f"rgb8; {suffix[1:]} compressed bgr8"
        )
        message.data = data
        return message

    def send(stamp: int) -> None:
        camera.publish(compressed(stamp, whole))

    expected = answer_to_a_good_image(bench, labels, send)
    with memory_back_to_its_level(60), memory_peak_below(1500):
        spoilt = enumerate(Mutations([whole, encoded(".png"), encoded(".jpg")], seed).take(500))
        messages = ((compressed(100 * i, data), True) for i, data in spoilt)
        assert flood(bench, camera.publish, messages) == 500
        labels.clear()
    assert answer_to_a_good_image(bench, labels, send) == expected
    check_reasons(bench)
    check_log(bench)


def wire_data(message: Any, count: int, seed: int) -> Iterator[bytes]:
    """Serialized messages, spoilt; of three in four the stamp is spared, and 100 ms later each."""
    data = bytes(serialize_message(message))
    damaged = Mutations([data], seed)
    for index, spoilt in enumerate(damaged.take(count)):
        if index % 4:
            seconds, rest = divmod(index * 100, 1000)
            stamp = struct.pack("<iI", seconds, rest * 1_000_000)
            spoilt = data[: STAMP - 8] + stamp + spoilt[STAMP:]
        yield spoilt


def is_readable(data: bytes, kind: type) -> bool:
    """Whether the middleware can make a message of wire data."""
    try:
        deserialize_message(data, kind)
    except Exception:  # RMWError where there is one; its place and name differ by distribution
        return False
    return True


def with_readability(wire: Iterable[bytes], kind: type) -> Iterator[tuple[bytes, bool]]:
    return ((data, is_readable(data, kind)) for data in wire)


@pytest.mark.parametrize(
    ("transport", "topic", "count", "seed"),
    [("raw", "image", 300, 20), ("compressed", "image/compressed", 200, 23)],
)
def test_wire_data_of_images(
    start: Start, transport: str, topic: str, count: int, seed: int
) -> None:
    good: Any = image_message(street(WIDTH, HEIGHT), "bgr8", header(0))
    if transport == "compressed":
        good = CompressedImage(header=header(0), format="png", data=encoded(".png"))
    bench = start(camera_qos=None, image_transport=transport, **SMALL)
    camera = bench.camera.create_publisher(type(good), topic, RELIABLE)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.ros.wait_until(camera.get_subscription_count, f"the subscription of {topic}")

    def send(stamp: int) -> None:
        good.header = header(stamp)
        camera.publish(good)

    expected = answer_to_a_good_image(bench, labels, send)
    with memory_back_to_its_level(60):
        good.header = header(0)
        wire = wire_data(good, count, seed)
        read = flood(bench, camera.publish, with_readability(wire, type(good)))
        assert count // 4 < read < count
        labels.clear()
    assert answer_to_a_good_image(bench, labels, send) == expected
    check_reasons(bench)
    check_log(bench)


def test_wire_data_of_calibrations(start: Start) -> None:
    """The images that go with them are answered, and so is a whole calibration after them."""
    bench = start(**SMALL)
    infos = bench.record("/vss/camera_info", CameraInfo)
    publisher = bench.camera.create_publisher(CameraInfo, "camera_info", RELIABLE)
    bench.active()
    bench.ros.wait_until(publisher.get_subscription_count, "the subscription of camera_info")
    whole = CameraInfo(header=header(0), width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
    whole.d = [0.1, -0.2, 0.0, 0.0, 0.05]
    whole.k = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
    image = image_message(street(WIDTH, HEIGHT), "rgb8", header(0))

    def with_image(pairs: Iterable[tuple[int, bytes]]) -> Iterator[tuple[Any, bool]]:
        for index, data in pairs:
            publisher.publish(data)
            image.header = header(100 * (index + 1))
            yield image, True

    with memory_back_to_its_level(30):
        wire = enumerate(wire_data(whole, 200, seed=21))
        assert flood(bench, lambda m: bench.send(stamp_ms(m), m), with_image(wire)) == 200
    publisher.publish(whole)
    for stamp in range(LATER, LATER + 3000, 100):  # until the last calibration has come
        bench.send(stamp, image)
        bench.wait_for_answer(infos, stamp)
        if infos[-1].k.tolist() == whole.k.tolist():
            break
    assert infos[-1].k.tolist() == whole.k.tolist()
    assert infos[-1].d.tolist() == whole.d.tolist()
    check_log(bench)


def stamp_ms(message: Image) -> int:
    return int(message.header.stamp.sec) * 1000 + int(message.header.stamp.nanosec) // 1_000_000


def test_requests_for_prompts(ros: RosSession, start: Start) -> None:
    """Every request that can be read is answered in short; what is accepted can be removed."""
    bench = start(discovery="off", image_size=64)
    bench.active().send(0)
    bench.wait_for_value("frames processed", "1")
    mask = image_message(
        np.pad(np.full((30, 40), 255, np.uint8), ((60, 30), (30, 90))), "mono8", header(0)
    )
    requests = [
        AddPrompt.Request(points=[50.0, 80.0, 5.0, 5.0], point_labels=[1, 0], class_name="Car"),
        AddPrompt.Request(box=CAR_BOX),
        AddPrompt.Request(mask=mask),
    ]
    add = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    remove = bench.ears.create_client(RemoveObject, "/vss/remove_object")
    samples = [bytes(serialize_message(request)) for request in requests]
    accepted = refused = 0
    with memory_back_to_its_level(30):
        for data in Mutations(samples, seed=22).take(300):
            if not is_readable(data, AddPrompt.Request):
                continue
            answer = ros.call(add, deserialize_message(data, AddPrompt.Request))
            assert (answer.track_id > 0) == answer.success
            assert 0 < len(answer.message) < 1000, answer.message
            assert len(answer.message.splitlines()) == 1, answer.message
            if answer.success:
                accepted += 1
                gone = ros.call(remove, RemoveObject.Request(track_id=answer.track_id))
                assert gone.success, gone.message
            else:
                refused += 1
    assert accepted > 20 and refused > 20
    assert ros.call(add, requests[1]).success
    bench.send(100)
    bench.wait_for_value("objects", "1")
    check_log(bench)
