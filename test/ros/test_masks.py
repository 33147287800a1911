"""Masks of classes, each a topic, and the calibration beside them."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from depth_scene import K
from harness import HEIGHT, RELIABLE, WIDTH, Harness, Start, header, street
from sam2vss_ros.ros.conversions import image_message

STREET = ["solid=Building,Road,Pavement", "Sky"]
GROUPS = {"solid": (1, 3, 4), "Sky": (0,)}


def image(message: Image) -> np.ndarray:
    """(H, W) uint8, as who reads `data[v * width + u]` sees it."""
    assert message.encoding == "mono8" and len(message.data) == message.width * message.height
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_a_mask_is_where_its_classes_are(start: Start) -> None:
    bench = start(min_class_score=0.0, masks=STREET)
    labels = bench.record("/vss/label_image", Image)
    masks = {name: bench.record(f"/vss/mask/{name}", Image) for name in GROUPS}
    bench.active().send(100)
    ids = image(bench.wait_for_answer(labels, 100))
    assert np.isin(ids, GROUPS["solid"]).any()
    for name, classes in GROUPS.items():
        mask = image(bench.wait_for_answer(masks[name], 100))
        np.testing.assert_array_equal(mask, np.where(np.isin(ids, classes), 255, 0))


def test_unlabelled_pixels_are_in_no_mask(start: Start) -> None:
    everything = (
        "all=Sky,Building,Pole,Road,Pavement,Tree,SignSymbol,Fence,Car,Pedestrian,Bicyclist"
    )
    bench = start(min_class_score=1.0, masks=[everything])
    masks = bench.record("/vss/mask/all", Image)
    bench.active().send(100)
    assert not image(bench.wait_for_answer(masks, 100)).any()


def test_nvblox_pairs_a_mask_with_its_calibration_and_its_image(start: Start) -> None:
    """As nvblox_ros (319438a) reads them: `mask/image` as mono8 without a look at the step, any
    value but 0 is masked, and image, its camera_info, mask and the mask's camera_info are paired by
    exact stamps."""
    bench = start(min_class_score=0.0, masks=STREET, output_width=80)
    masks = bench.record("/vss/mask/solid", Image)
    infos = bench.record("/vss/mask/camera_info", CameraInfo)
    camera_infos = bench.camera.create_publisher(CameraInfo, "camera_info", RELIABLE)
    bench.active()
    bench.ros.wait_until(camera_infos.get_subscription_count, "the calibration's subscriber")
    camera_infos.publish(
        CameraInfo(header=header(100), width=WIDTH, height=HEIGHT, k=K, p=[0.0] * 12)
    )
    channel = bench.node._channels[0]
    bench.ros.wait_until(
        lambda: channel._camera is not None and channel._camera.camera_info, "the calibration"
    )
    bench.send(100)
    mask, info = bench.wait_for_answer(masks, 100), bench.wait_for_answer(infos, 100)
    assert mask.header == info.header == header(100)
    assert (mask.width, mask.height) == (info.width, info.height) == (80, 60)
    assert info.k[0] == pytest.approx(K[0] / 2)  # that of the mask, not of the camera
    masked = image(mask) != 0
    assert 0 < masked.mean() < 1


def test_every_camera_has_its_masks(start: Start) -> None:
    bench = start(cameras=["front", "rear"], masks=["Sky"], min_class_score=0.0, discovery="off")
    heard = {name: bench.record(f"/vss/{name}/mask/Sky", Image) for name in ("front", "rear")}
    rear = bench.ros.node("rear_camera").create_publisher(Image, "rear/image", RELIABLE)
    bench.ros.wait_until(lambda: bench.state() == "active", "an active node")
    bench.ros.wait_until(rear.get_subscription_count, "the node's subscription")
    topics = {p.topic_name for p in bench.node.publishers}
    assert {f"/vss/{camera}/mask/camera_info" for camera in heard} <= topics
    bench.ros.wait_until(
        lambda: all(
            p.get_subscription_count()
            for p in bench.node.publishers
            if p.topic_name.endswith("/Sky")
        ),
        "ears",
    )
    rear.publish(image_message(street(), "rgb8", header(100)))
    assert image(bench.wait_for_answer(heard["rear"], 100)).shape == (HEIGHT, WIDTH)
    assert heard["front"] == []


def test_without_masks_there_are_no_topics_of_them(start: Start) -> None:
    bench = start().active()
    assert not [p.topic_name for p in bench.node.publishers if "/mask" in p.topic_name]


def test_nobody_listens_and_no_mask_is_made(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from sam2vss_ros.ros import outputs

    made: list[int] = []
    original = outputs.mask_image

    def counted(ids):  # type: ignore[no-untyped-def]
        make = original(ids)

        def recorded(answer: outputs.Answer) -> Image:
            made.append(answer.header.stamp.sec)
            return make(answer)

        return recorded

    monkeypatch.setattr(outputs, "mask_image", counted)
    bench = start(masks=STREET)
    masks = bench.record("/vss/mask/Sky", Image)
    bench.active().send(1000)
    bench.wait_for_answer(masks, 1000)
    assert made == [1]  # one of two


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        (["people=Pedestrain"], "masks: people: no class 'Pedestrain' in camvid, do you mean"),
        (["traffic light"], "masks: 'traffic light': traffic light cannot stand in a topic"),
        (["Car", "Car=Tree"], "masks: Car, Car: each name counts once"),
    ],
)
def test_a_mask_that_does_not_do_is_told_and_can_be_corrected(
    start: Start, masks: list[str], said: str
) -> None:
    bench: Harness = start(masks=masks)
    bench.wait_for_log(f"cannot configure: {said}")
    assert bench.state() == "unconfigured"
    assert bench.set(masks=["Car"])[0].successful
    assert bench.change("configure")
    assert "/vss/mask/Car" in {p.topic_name for p in bench.node.publishers}


def test_labels_of_16_bits_are_warned_of_once(start: Start) -> None:
    bench = start(unlabelled_id=1000, cameras=["front", "rear"])
    bench.wait_for_log("label_image is mono16")
    assert bench.log.count("label_image is mono16") == 1
    bench.wait_for_value("label image", "mono16")
