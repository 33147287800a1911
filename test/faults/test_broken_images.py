"""Images as no camera should send them: counted by reason, and nothing else suffers.

What is refused leaves the stream as it was: its object keeps its id.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from harness import CAR_BOX, HEIGHT, RELIABLE, WIDTH, Harness, Start, header, street
from resident import memory_back_to_its_level, memory_peak_below
from sam2vss_ros.msg import TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.srv import AddPrompt

SECONDS = 8.0
"""For one image, whatever it is."""


def raw(**changes: Any) -> Image:
    """The street, with these fields of the message changed."""
    message = image_message(street(), "rgb8", header(0))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


RAW_REFUSED: dict[str, dict[str, Any]] = {
    "no such encoding": {"encoding": "rgb24"},
    "no encoding": {"encoding": ""},
    "an encoding that is a book": {"encoding": "rgb8 " * 100_000},
    "depth": {"encoding": "32FC1"},
    "no width": {"width": 0},
    "no height": {"height": 0},
    "no data": {"data": b""},
    "half of the data": {"data": bytes(WIDTH * HEIGHT * 3 // 2)},
    "step below a row": {"step": WIDTH * 3 - 1},
    "step of zero": {"step": 0},
    "step beyond the data": {"step": 2**32 - 1},
    "height beyond the data": {"height": 2**32 - 1},
    "width beyond the data": {"width": 2**32 - 1},
    "all sizes beyond the data": {"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1},
    "an odd width of pairs": {"encoding": "yuv422", "width": WIDTH - 1, "step": WIDTH * 3},
}

RAW_TAKEN: dict[str, Callable[[], Image]] = {
    "more data than needed": lambda: raw(data=bytes(WIDTH * HEIGHT * 3 + 1000)),
    "one pixel": lambda: sized(1, 1),
    "a row": lambda: sized(4000, 1),
    "a column": lambda: sized(1, 4000),
    "a strip": lambda: sized(16, 4000),
    "an odd size": lambda: sized(161, 121),
    "black": lambda: raw(data=bytes(WIDTH * HEIGHT * 3)),
    "noise": lambda: raw(data=np.random.default_rng(0).bytes(WIDTH * HEIGHT * 3)),
    "a byte order that is none": lambda: raw(is_bigendian=77),
}


def sized(width: int, height: int) -> Image:
    return image_message(street(width, height), "rgb8", header(0))


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    image = street() if image is None else image
    return bytes(cv2.imencode(suffix, image[..., ::-1])[1].tobytes())


def blank_png(side: int) -> bytes:
    """A picture of one colour: little data, many pixels."""
    return bytes(cv2.imencode(".png", np.zeros((side, side), np.uint8))[1].tobytes())


COMPRESSED_REFUSED: dict[str, Callable[[], tuple[str, bytes]]] = {
    "no data": lambda: ("jpeg", b""),
    "text": lambda: ("jpeg", b"GET / HTTP/1.1\r\n\r\n"),
    "a JPEG without its end": lambda: ("jpeg", encoded(".jpg")[:-300]),
    "a JPEG's beginning": lambda: ("jpeg", encoded(".jpg")[:20]),
    "a PNG without its end": lambda: ("png", encoded(".png")[:-300]),
    "a PNG's head": lambda: ("png", encoded(".png")[:33]),
    "depth": lambda: ("16UC1; compressedDepth png", bytes(12) + encoded(".png")),
    "video": lambda: ("h264", b"\x00\x00\x00\x01\x67\x42\x00\x1e" + bytes(500)),
    "400 million pixels": lambda: ("png", blank_png(20_000)),
}


class Stream:
    """A live node with one object in memory, and what becomes of each image."""

    def __init__(self, bench: Harness, topic: str, good: Image | CompressedImage) -> None:
        self._bench, self._good = bench, good
        self._camera = bench.camera.create_publisher(type(good), topic, RELIABLE)
        self._objects = bench.record("/vss/objects", TrackedObjectArray)
        self._stamp = 0
        bench.active()
        bench.ros.wait_until(self._camera.get_subscription_count, f"the subscription of {topic}")
        self.answer_ids()
        client = self._bench.ears.create_client(AddPrompt, "/vss/add_prompt")
        answer = self._bench.ros.call(client, AddPrompt.Request(box=CAR_BOX))
        assert answer.success, answer.message
        self.id = answer.track_id
        assert self.answer_ids() == [self.id]

    def answer_ids(self) -> list[int]:
        """The ids in the answer to a good image."""
        self.send(self._good)
        answer = self._bench.wait_for_answer(self._objects, self._stamp)
        return [o.track_id for o in answer.objects]

    def send(self, message: Any) -> str:
        """Send an image; returns what became of it: processed, dropped or a reason."""
        bench, before = self._bench, self._outcomes()
        self._stamp += 100
        message.header = header(self._stamp)
        start = time.monotonic()
        self._camera.publish(message)
        bench.ros.wait_until(
            lambda: self._outcomes() != before,
            lambda: f"what becomes of the image: {bench.diagnostics()}; log: {bench.log[-2000:]}",
        )
        assert time.monotonic() - start < SECONDS
        after = self._outcomes()
        (became,) = [what for what, count in after.items() if count != before.get(what, 0)]
        assert after[became] == before.get(became, 0) + 1
        return became

    def _outcomes(self) -> dict[str, int]:
        values = self._bench.diagnostics()
        names = {"frames processed", "frames dropped", *(k for k in values if "failed: " in k)}
        return {name: int(values[name]) for name in names}


def check_refusal(bench: Harness, stream: Stream, message: Any) -> None:
    became = stream.send(message)
    assert became.startswith("failed: ") and "error: " not in became, (became, bench.log[-2000:])
    assert stream.answer_ids() == [stream.id]
    assert "Traceback" not in bench.log
    assert max(map(len, bench.log.splitlines())) < 1000


@pytest.fixture
def raw_stream(start: Start) -> tuple[Harness, Stream]:
    bench = start(camera_qos=None, discovery="off", overload="all")
    return bench, Stream(bench, "image", raw())


def test_raw_images_that_are_refused(raw_stream: tuple[Harness, Stream]) -> None:
    bench, stream = raw_stream
    with memory_back_to_its_level(60):
        for changes in RAW_REFUSED.values():
            check_refusal(bench, stream, raw(**changes))


@pytest.mark.parametrize("kind", RAW_TAKEN)
def test_raw_images_that_are_taken(raw_stream: tuple[Harness, Stream], kind: str) -> None:
    """However odd: they are answered, or refused by a limit, and the stream goes on."""
    bench, stream = raw_stream
    became = stream.send(RAW_TAKEN[kind]())
    assert "error: " not in became, bench.log[-2000:]
    stream.answer_ids()
    assert "Traceback" not in bench.log


def test_compressed_images_that_are_refused(start: Start) -> None:
    bench = start(camera_qos=None, image_transport="compressed", discovery="off", overload="all")
    good = CompressedImage(format="jpeg", data=encoded(".jpg"))
    stream = Stream(bench, "image/compressed", good)
    messages = [make() for make in COMPRESSED_REFUSED.values()]
    with memory_back_to_its_level(60), memory_peak_below(300):
        for form, data in messages:
            check_refusal(bench, stream, CompressedImage(format=form, data=data))
