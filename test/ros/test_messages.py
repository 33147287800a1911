"""The generated messages: what is set comes back from the wire, masks and constants included."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, RegionOfInterest

from sam2vss_ros.msg import ClassCatalog, ClassCatalogEntry, TrackedObject, TrackedObjectArray
from sam2vss_ros.ros.masks import decode_mask, encode_mask
from sam2vss_ros.srv import AddPrompt, RemoveObject
from sam2vss_ros.types import TrackState


def there_and_back(message):  # type: ignore[no-untyped-def]
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize("height, width", [(0, 0), (1, 1), (7, 13), (480, 640)])
def test_an_object_with_its_mask_survives_the_wire(height: int, width: int) -> None:
    mask = np.random.default_rng(height).random((height, width)) < 0.5
    sent = TrackedObjectArray(height=480, width=640)
    sent.header.frame_id = "camera_optical"
    sent.header.stamp.sec, sent.header.stamp.nanosec = 1_700_000_000, 999_999_999
    tracked = TrackedObject(
        track_id=2**32 - 1,
        state=TrackedObject.OCCLUDED,
        class_id=65535,
        class_name="Straße",
        class_score=0.25,
        class_probabilities=[0.25, 0.75],
        predicted_iou=0.5,
        visibility=1.0,
        age=3,
        frames_since_seen=2,
        box=RegionOfInterest(x_offset=5, y_offset=6, height=height, width=width),
        area=int(mask.sum()),
        centroid_x=1.5,
        centroid_y=2.5,
        mask=encode_mask(mask),
    )
    sent.objects = [tracked, TrackedObject(track_id=1)]

    received = there_and_back(sent)

    assert received == sent
    o = received.objects[0]
    np.testing.assert_array_equal(decode_mask(o.mask, o.box.height, o.box.width), mask)
    # The line that TrackedObject.msg documents.
    decoded = np.unpackbits(o.mask, count=o.box.height * o.box.width).reshape(
        o.box.height, o.box.width
    )
    np.testing.assert_array_equal(decoded, mask)


def test_the_pixel_formula_of_the_message_holds() -> None:
    mask = np.random.default_rng(0).random((5, 11)) < 0.5
    data = there_and_back(TrackedObject(mask=encode_mask(mask))).mask
    for row, column in np.ndindex(*mask.shape):
        i = row * mask.shape[1] + column
        assert (data[i // 8] >> (7 - i % 8)) & 1 == mask[row, column]


def test_states_are_those_of_the_pipeline() -> None:
    assert {s.name: s.value for s in TrackState} == {
        name: getattr(TrackedObject, name)
        for name in ("TENTATIVE", "CONFIRMED", "OCCLUDED", "LOST")
    }


def test_the_catalog_survives_the_wire() -> None:
    entry = ClassCatalogEntry(id=300, name="Car", r=64, g=0, b=255, thing=True)
    sent = ClassCatalog(name="camvid", unlabelled_id=255, entries=[entry])
    assert there_and_back(sent) == sent


def test_requests_and_responses_survive_the_wire() -> None:
    mask = Image(height=1, width=2, step=2, encoding="mono8", data=[0, 255])
    for sent in (
        AddPrompt.Request(points=[1.5, 2.5], point_labels=[1], class_name="Car"),
        AddPrompt.Request(box=[1.0, 2.0, 3.0, 4.0]),
        AddPrompt.Request(mask=mask),
        AddPrompt.Response(success=True, message="", track_id=2**32 - 1),
        RemoveObject.Request(track_id=2**32 - 1),
        RemoveObject.Response(success=False, message="no object 7"),
    ):
        assert there_and_back(sent) == sent
