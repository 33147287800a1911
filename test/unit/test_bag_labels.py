"""Labels of a bag's images, from topics of every coding and from files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bag_samples import (
    HEIGHT,
    IMAGES,
    LABELS,
    STAMP,
    WIDTH,
    assert_labels,
    frames,
    ids,
    picture,
    raw,
    write,
)
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.bag_writer import header, image_message, types
from sam2vss_ros.io.label_files import LabelRules
from sam2vss_ros.io.labelled_bags import open_bag
from sam2vss_ros.semantics.catalog import load_catalog

CAMVID = load_catalog("camvid")


def coded(name: str, pixels: np.ndarray, kind: str) -> Any:
    """A sensor_msgs/CompressedImage of label pixels."""
    return types().types["sensor_msgs/msg/CompressedImage"](
        header=header(STAMP, name),
        format=f"mono8; {kind} compressed ",
        data=cv2.imencode(f".{kind}", pixels)[1].reshape(-1),
    )


@pytest.mark.parametrize(
    "message",
    [
        image_message(ids(5).astype(np.int32), "32SC1", header(STAMP, "")),
        image_message(ids(5).astype(np.int16), "16SC1", header(STAMP, "")),
        image_message(np.dstack([ids(5)] * 3), "rgb8", header(STAMP, "")),
        image_message(np.dstack([ids(5)] * 3 + [ids(5)]), "bgra8", header(STAMP, "")),
        image_message(CAMVID.palette()[ids(5)][..., ::-1], "bgr8", header(STAMP, "")),
        coded("grey", ids(5), "png"),
        coded("deep", ids(5, np.uint16), "png"),
        coded("colours", CAMVID.palette()[ids(5)][..., ::-1], "png"),
    ],
    ids=["32SC1", "16SC1", "rgb8", "bgra8", "colours", "png", "16 bit png", "png of colours"],
)
def test_labels_of_a_topic_in_every_coding(message: Any, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", (IMAGES, raw(0), 0), (LABELS, message, 0))
    stream = open_bag(bag, IMAGES, LABELS, rules=LabelRules(CAMVID))
    (item,) = frames(stream.read())
    assert_labels(item, ids(5))
    assert stream.notes() == []


@pytest.mark.parametrize("tag", [6, 3])
@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
def test_labels_in_files_meet_turned_jpegs(tag: int, drawn_on: str, tmp_path: Path) -> None:
    """Images of messages stay as they are stored; the labels are turned onto them."""
    labels = tmp_path / "labels"
    labels.mkdir()
    stored = ids(5)
    stored[:, 40:] = 9
    of_viewer = np.rot90(stored, {6: -1, 3: 2}[tag])
    cv2.imwrite(str(labels / "0.png"), of_viewer if drawn_on == "shown" else stored)
    exif = Image.Exif()
    exif[0x112] = tag
    jpeg = BytesIO()
    Image.fromarray(picture(0)).save(jpeg, "JPEG", exif=exif)
    message = types().types["sensor_msgs/msg/CompressedImage"](
        header=header(STAMP, ""),
        format="rgb8; jpeg compressed bgr8",
        data=np.frombuffer(jpeg.getvalue(), np.uint8),
    )
    bag = write(tmp_path / "bag", (IMAGES, message, 0))
    if tag == 3:
        with pytest.raises(InputError, match="EXIF orientation 3, .* fit both ways"):
            open_bag(bag, IMAGES, labels=labels)
    rules = LabelRules(orientation=drawn_on if tag == 3 else "auto")
    (item,) = frames(open_bag(bag, IMAGES, labels=labels, rules=rules).read())
    assert item.frame.image.shape[:2] == (HEIGHT, WIDTH)
    assert_labels(item, stored)


def test_labels_of_a_topic_below_zero_are_void(tmp_path: Path) -> None:
    pixels = ids(5).astype(np.int32)
    pixels[:5] = -1
    message = image_message(pixels, "32SC1", header(STAMP, ""))
    bag = write(tmp_path / "bag", (IMAGES, raw(0), 0), (LABELS, message, 0))
    (item,) = frames(open_bag(bag, IMAGES, LABELS, rules=LabelRules(CAMVID)).read())
    assert_labels(item, np.where(pixels < 0, 11, pixels))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (coded("lossy", ids(5), "jpg"), r"compressed with loss \(JPEG\)"),
        (image_message(picture(0), "rgb8", header(STAMP, "")), "colours that no class of camvid"),
        (image_message(ids(0).astype("f4"), "32FC1", header(STAMP, "")), "unknown encoding: '32F"),
    ],
)
def test_label_topics_of_no_use_are_refused_at_once(
    message: Any, reason: str, tmp_path: Path
) -> None:
    bag = write(tmp_path / "bag", (IMAGES, raw(0), 0), (LABELS, message, 0))
    with pytest.raises(InputError, match=rf"bag, topic {LABELS}.*{reason}"):
        open_bag(bag, IMAGES, LABELS, rules=LabelRules(CAMVID))
