"""Images of any size and layout before a live node: bounded, counted, and the stream goes on."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from harness import CAR_BOX, RELIABLE, Start, header, street
from ros_session import RosSession
from sam2vss_ros.config import MOST_PIXELS, MOST_SIDE
from sam2vss_ros.msg import TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.ros.outputs import output_size
from sam2vss_ros.srv import AddPrompt


def png(milliseconds: int, pixels: np.ndarray) -> CompressedImage:
    message = CompressedImage(header=header(milliseconds), format="rgb8; png compressed bgr8")
    message.data = cv2.imencode(".png", pixels)[1].tobytes()
    return message


def test_images_of_too_many_pixels_are_refused_by_their_header(
    ros: RosSession, start: Start
) -> None:
    bench = start(camera_qos=None, image_transport="compressed", max_image_pixels=1_000_000)
    camera = bench.camera.create_publisher(CompressedImage, "image/compressed", RELIABLE)
    bench.active()
    ros.wait_until(camera.get_subscription_count, "the subscription of image/compressed")
    camera.publish(png(0, street()))
    bench.wait_for_value("frames processed", "1")
    large = np.zeros((1001, 1000, 3), np.uint8)
    for count in (1, 2):
        camera.publish(png(100 * count, large))
        bench.wait_for_value("failed: too many pixels", str(count))
    bench.wait_for_log("the image is 1000 x 1001, max_image_pixels allows 1000000 pixels")
    assert bench.log.count("frame skipped (too many pixels;") == 1
    (changed,) = bench.set(max_image_pixels=1_001_000)
    assert changed.successful
    camera.publish(png(300, large))
    bench.wait_for_value("frames processed", "2")


def test_raw_images_of_too_many_pixels(start: Start) -> None:
    bench = start(max_image_pixels=160 * 120).active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    bench.send(100, image_message(street(161, 120), "rgb8", header(0)))
    bench.wait_for_value("failed: too many pixels", "1")
    claims = Image(encoding="mono8", height=2**31, width=2**31, step=2**31, data=b"1")
    bench.send(200, claims)
    bench.wait_for_value("failed: truncated data", "1")
    bench.send(300)
    bench.wait_for_value("frames processed", "2")


def test_odd_images_cost_no_object(ros: RosSession, start: Start) -> None:
    bench = start(overload="all", output_height=60)
    objects = bench.record("/vss/objects", TrackedObjectArray)
    labels = bench.record("/vss/label_image", Image)
    bench.active().send(0)
    bench.wait_for_answer(objects, 0)
    add = bench.ears.create_client(AddPrompt, "/vss/add_prompt")
    asked = ros.call(add, AddPrompt.Request(box=CAR_BOX))
    assert asked.success
    stamp = 0
    for height, width in ((16, 4000), (4000, 16), (1, 4000), (1, 1), (2, 2)):
        for picture in (street(), street(width, height), street()):
            stamp += 33
            before = time.monotonic()
            bench.send(stamp, image_message(picture, "rgb8", header(0)))
            answer = bench.wait_for_answer(objects, stamp)
            assert time.monotonic() - before < 10
            assert asked.track_id in [o.track_id for o in answer.objects]
            label = bench.wait_for_answer(labels, stamp)
            assert label.height == 60 and 1 <= label.width <= MOST_SIDE
    assert bench.diagnostics()["frames failed"] == "0"


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_planes_of_a_camera(start: Start, encoding: str) -> None:
    bench = start()
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    pixels = cv2.cvtColor(street(), cv2.COLOR_RGB2YUV_I420)
    chroma = pixels[120:].reshape(2, 60, 80)
    if encoding == "nv21":
        chroma = chroma[::-1]
    message = Image(encoding=encoding, height=120, width=160, step=160)
    message.data = pixels[:120].tobytes() + np.stack(chroma, -1).tobytes()
    bench.send(0, message)
    assert bench.wait_for_answer(labels, 0).width == 160


def test_the_output_is_bounded() -> None:
    assert output_size(0, 0, (4000, 16)) == (4000, 16)
    assert output_size(0, 480, (640, 480)) == (640, 480)
    assert output_size(0, 60, (1024, 128)) == (480, 60)
    assert output_size(0, 480, (4000, 1)) == (MOST_SIDE, 480)
    assert output_size(640, 0, (1, 4000)) == (640, MOST_SIDE)
    width, height = output_size(0, MOST_SIDE, (4000, 1))
    assert height == MOST_SIDE and width * height <= MOST_PIXELS
    assert output_size(0, 1, (1, 4000)) == (1, 1)
