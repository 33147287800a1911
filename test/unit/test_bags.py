"""Bags that are read: labels that find their images, images of every kind, broken bags."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from bag_samples import (
    HEIGHT,
    IMAGES,
    LABELS,
    STAMP,
    STEP,
    WIDTH,
    assert_labels,
    frames,
    ids,
    labels_of,
    picture,
    raw,
    text,
    write,
)
from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import InputError
from sam2vss_ros.io import labelled_bags
from sam2vss_ros.io.bag_writer import (
    compressed_message,
    header,
    image_message,
    label_message,
    new_bag,
    types,
)
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.label_pixels import LabelDecoder
from sam2vss_ros.io.labelled_bags import LabelTopic, open_bag
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame
from sam2vss_ros.io.ros_images import ENCODINGS


def write_stream(path: Path, labelled: bool = True, storage: str = "mcap") -> Path:
    """Four images, with their labels if `labelled`."""
    messages = [(IMAGES, raw(i), i) for i in range(4)]
    messages += [(LABELS, labels_of(i), i) for i in range(4) if labelled]
    return write(path, *messages, storage=storage)


# Labels find their images.


@pytest.mark.parametrize("delay", [-20, -1, 1, 20])
def test_labels_are_matched_by_stamp_not_by_order(tmp_path: Path, delay: int) -> None:
    messages = [(IMAGES, raw(i), i) for i in range(30)]
    messages += [(LABELS, labels_of(i), i + delay) for i in range(30)]
    stream = open_bag(write(tmp_path / "bag", *messages), label_topic=LABELS)
    for i, item in enumerate(frames(stream.read())):
        assert item.frame.stamp_ns == STAMP + i * STEP
        assert_labels(item, ids(i))
    assert stream.unmatched() == 0


def test_what_has_no_counterpart_is_counted(tmp_path: Path) -> None:
    beside = label_message(ids(0), header(STAMP + 1, "front"))  # a nanosecond away
    far = 2 * labelled_bags.LABEL_WINDOW_NS // STEP
    bag = write(
        tmp_path / "bag",
        *((IMAGES, raw(i), i) for i in range(6)),
        (LABELS, beside, 0),
        (LABELS, labels_of(2), 2),
        (LABELS, labels_of(2), 2),
        (LABELS, labels_of(4), 4),
        (LABELS, labels_of(5), far),
    )
    stream = open_bag(bag, label_topic=LABELS)
    labelled = [item.labels is not None for item in frames(stream.read())]
    assert labelled == [False, False, True, False, True, False]
    assert stream.unmatched() == 3


def test_a_stream_without_end_takes_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No label is of one of the images; no more than two windows of them are held."""
    monkeypatch.setattr(labelled_bags, "LABEL_WINDOW_NS", 5 * STEP)
    odd = [(LABELS, label_message(ids(0), header(STAMP + i * STEP + 1, "")), i) for i in range(60)]
    bag = Bag(write(tmp_path / "bag", *odd))
    source, most = LabelTopic(bag, LABELS, LabelDecoder(), MOST_PIXELS), 0
    for i in range(60):
        assert source.find(i, STAMP + i * STEP, STAMP + i * STEP) is None
        most = max(most, len(source._held))
    assert 10 <= most <= 12
    assert (source.total, source.joined) == (60, 0)


@pytest.mark.parametrize("name", ["{stamp}.png", "front_{stamp}.png", "{index:06d}.png"])
def test_labels_of_a_folder(tmp_path: Path, name: str) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for i in (0, 1, 3):
        file = name.format(stamp=STAMP + i * STEP, index=i)
        cv2.imwrite(str(labels / file), ids(i))
    stream = open_bag(write_stream(tmp_path / "bag", labelled=False), labels=labels)
    read = frames(stream.read())
    assert [item.labels is not None for item in read] == [True, True, False, True]
    assert_labels(read[3], ids(3))
    assert stream.unmatched() == 0


def test_labels_of_a_folder_for_other_images(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    cv2.imwrite(str(labels / f"{STAMP}.png"), ids(0))
    cv2.imwrite(str(labels / f"{STAMP + 1}.png"), ids(0))
    bag = write_stream(tmp_path / "bag", labelled=False)
    stream = open_bag(bag, labels=labels)
    frames(stream.read())
    assert stream.unmatched() == 1
    (labels / f"{STAMP}.png").unlink()
    with pytest.raises(InputError, match="none of the 1 label images is of one of its images"):
        list(open_bag(bag, labels=labels).read())
    cv2.imwrite(str(labels / f"left_{STAMP + 1}.png"), ids(0))
    with pytest.raises(InputError, match=r"have one number"):
        open_bag(bag, labels=labels)
    (labels / f"{STAMP + 1}.png").rename(labels / "road.png")
    with pytest.raises(InputError, match=r"road\.png: its name does not end with"):
        open_bag(bag, labels=labels)


def test_a_label_image_of_another_size_is_a_broken_frame(tmp_path: Path) -> None:
    small = label_message(ids(1)[::2], header(STAMP + STEP, ""))
    bag = write(
        tmp_path / "bag",
        (IMAGES, raw(0), 0),
        (LABELS, labels_of(0), 0),
        (IMAGES, raw(1), 1),
        (LABELS, small, 1),
    )
    good, broken = open_bag(bag, label_topic=LABELS).read()
    assert isinstance(good, LabelledFrame) and isinstance(broken, BrokenFrame)
    assert broken.reason == "labels of another size: 64x24, image 64x48"
    assert broken.frame is not None and broken.frame.stamp_ns == STAMP + STEP


# Images of every kind.


def test_every_encoding_of_the_node(tmp_path: Path) -> None:
    """Grey is grey in every encoding; rows are padded, wide pixels big-endian."""
    messages = []
    for i, (encoding, layout) in enumerate(ENCODINGS.items()):
        shape = (HEIGHT, WIDTH) if layout.channels == 1 else (HEIGHT, WIDTH, layout.channels)
        pixels = np.full(shape, 128 if layout.dtype == "u1" else 128 * 257, layout.dtype)
        message = image_message(pixels.byteswap(), encoding, header(STAMP + i, ""))
        rows = np.pad(message.data.reshape(HEIGHT, -1), ((0, 0), (0, 6)), constant_values=7)
        message.data, message.step, message.is_bigendian = rows.reshape(-1), rows.shape[1], 1
        messages.append((IMAGES, message, i))
    read = frames(open_bag(write(tmp_path / "bag", *messages)).read())
    assert len(read) == len(ENCODINGS)
    for encoding, item in zip(ENCODINGS, read, strict=True):
        assert item.frame.image.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(item.frame.image.astype(int) - 128).max() <= 3, encoding


def test_what_the_node_skips_is_a_broken_frame(tmp_path: Path) -> None:
    jpegs = [compressed_message(picture(i), "jpeg", header(STAMP + i * STEP, "")) for i in range(6)]
    jpegs[1].data = jpegs[1].data[:-100]
    jpegs[2].data = jpegs[2].data[:0]
    jpegs[4].header = jpegs[3].header
    stream = open_bag(write(tmp_path / "bag", *((IMAGES, m, i) for i, m in enumerate(jpegs))))
    read = list(stream.read())
    assert [isinstance(item, BrokenFrame) for item in read] == [0, 1, 1, 0, 1, 0]
    reasons = [item.reason.split(":")[0] for item in read if isinstance(item, BrokenFrame)]
    assert reasons == ["corrupt image", "corrupt image", "stamp used twice"]
    assert [item.name for item in read] == [f"{i:06d}" for i in range(6)]


def test_a_bag_of_ros_1(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    make = store.types
    path = tmp_path / "old.bag"
    with Ros1Writer(path) as writer:
        connection = writer.add_connection(IMAGES, "sensor_msgs/msg/Image", typestore=store)
        for i in range(2):
            new = raw(i)
            stamp = make["builtin_interfaces/msg/Time"](
                new.header.stamp.sec, new.header.stamp.nanosec
            )
            head = make["std_msgs/msg/Header"](i, stamp, "front")
            fields = [new.height, new.width, new.encoding, 0, new.step, new.data]
            message = make["sensor_msgs/msg/Image"](head, *fields)
            data = store.serialize_ros1(message, connection.msgtype)
            writer.write(connection, STAMP + i * STEP, data)
    for i, item in enumerate(frames(open_bag(path).read())):
        assert item.frame.stamp_ns == STAMP + i * STEP
        np.testing.assert_array_equal(item.frame.image, picture(i))


# Bags that are none, or that hold something else.


def damaged_inside(path: Path) -> Path:
    """A bag whose second half is overwritten."""
    file = write_stream(path) / f"{path.name}.mcap"
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half : half + 30_000] = b"\xff" * 30_000
    file.write_bytes(content)
    return path


def of_text(path: Path) -> Path:
    path = path.with_suffix(".mcap")
    path.write_text("no bag")
    return path


def of_nothing(path: Path) -> Path:
    path = path.with_suffix(".mcap")
    path.touch()
    return path


def without_files(path: Path) -> Path:
    next(write_stream(path).glob("*.mcap")).unlink()
    return path


def of_video(path: Path) -> Path:
    path = path.with_suffix(".mp4")
    path.write_text("no bag")
    return path


@pytest.mark.parametrize(
    "make",
    [damaged_inside, of_text, of_video, of_nothing, without_files, Path],
)
def test_what_is_no_whole_bag_is_named(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "bag")
    with pytest.raises(InputError, match=f"{re.escape(str(path))} cannot be read as a bag: ."):
        list(open_bag(path, IMAGES).read())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two topics with images, one with labels, one with text, a depth image, an empty topic."""
    depth = raw(0)
    depth.encoding = "32FC1"
    path = tmp_path_factory.mktemp("mixed") / "bag"
    with new_bag(path, "mcap") as bag:
        for topic, message in (
            ("/left", raw(0)),
            ("/right", raw(0)),
            ("/labels", labels_of(0)),
            ("/depth", depth),
            ("/chatter", text("hello")),
        ):
            bag.write(topic, message, STAMP)
        empty = bag._writer.add_connection("/empty", "sensor_msgs/msg/Image", typestore=types())
    assert empty.topic in Bag(path).topics
    return path


@pytest.mark.parametrize(
    ("topics", "message"),
    [
        (
            {},
            r"several topics with images, .*--image-topic.*; it holds /chatter \(std_msgs/msg/Str",
        ),
        ({"image_topic": "/front"}, r"no topic /front; it holds /chatter .*, /left \(sensor_msgs"),
        ({"image_topic": "/chatter"}, "its type is std_msgs/msg/String, not sensor_msgs/msg/Image"),
        ({"image_topic": "/empty"}, "topic /empty: it has no messages"),
        ({"image_topic": "/depth"}, "topic /depth: unknown encoding: '32FC1' is not one of rgb8"),
        ({"image_topic": "/left", "label_topic": "/lbl"}, "no topic /lbl; it holds /chatter"),
        ({"image_topic": "/left", "label_topic": "/chatter"}, "String, not sensor_msgs/msg/Image"),
        ({"image_topic": "/left", "label_topic": "/right"}, "topic /right is a colour image"),
    ],
)
def test_what_does_not_fit_is_said(mixed: Path, topics: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_bag(mixed, **topics)  # type: ignore[arg-type]


def test_a_bag_without_images(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", ("/chatter", text("hello"), 0), (LABELS, labels_of(0), 0))
    with pytest.raises(InputError, match="holds no topic with images; it holds /camera/labels"):
        open_bag(bag, label_topic=LABELS)


def test_a_bag_without_a_whole_image(tmp_path: Path) -> None:
    broken = compressed_message(picture(0), "jpeg", header(STAMP, ""))
    broken.data = broken.data[:20]
    stream = open_bag(write(tmp_path / "bag", (IMAGES, broken, 0)))
    with pytest.raises(InputError, match=r"no image can be used: corrupt image: 20 bytes"):
        list(stream.read())


# Time that is not perfect.


def stamped(path: Path, *stamps: int, labels: bool = True) -> Path:
    """A bag of images with these stamps, recorded STEP apart, and of their labels."""
    messages = [
        (IMAGES, image_message(picture(i), "rgb8", header(stamp, "front")), i)
        for i, stamp in enumerate(stamps)
    ]
    if labels:
        messages += [
            (LABELS, label_message(ids(i), header(stamp, "front")), i)
            for i, stamp in enumerate(stamps)
        ]
    return write(path, *sorted(messages, key=lambda m: m[2]))


@pytest.mark.parametrize("stamp", [0, 5, STAMP])
def test_images_without_stamps_go_by_the_time_of_their_recording(
    tmp_path: Path, stamp: int, caplog: pytest.LogCaptureFixture
) -> None:
    bag = stamped(tmp_path / "bag", *[stamp] * 5)
    for _ in range(2):
        read = frames(open_bag(bag, IMAGES, LABELS).read())
        assert [item.frame.stamp_ns for item in read] == [STAMP + i * STEP for i in range(5)]
        for i, item in enumerate(read):
            assert_labels(item, ids(i))
    said = f"{bag}, topic {IMAGES}: the camera does not stamp its images"
    assert caplog.text.count(said) == 2, "once a reading"


def test_a_simulation_begins_at_zero(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = stamped(tmp_path / "bag", 0, STEP, 2 * STEP)
    read = frames(open_bag(bag, IMAGES, LABELS).read())
    assert [item.frame.stamp_ns for item in read] == [0, STEP, 2 * STEP]
    assert not caplog.text


def test_a_stamp_that_stands_still_later_on(tmp_path: Path) -> None:
    """The second image with it may be the first once more; from the third on it is no stamp."""
    bag = stamped(tmp_path / "bag", 10, 20, 20, 20, 20, labels=False)
    read = list(open_bag(bag, IMAGES).read())
    times = [i.frame.stamp_ns if isinstance(i, LabelledFrame) else None for i in read]
    assert times == [10, 20, None, 20 + 2 * STEP, 20 + 3 * STEP]


def test_a_damaged_first_message_hides_no_stamps(tmp_path: Path) -> None:
    broken = raw(0)
    broken.data = broken.data[:10]
    bag = write(tmp_path / "bag", (IMAGES, broken, 0), (IMAGES, raw(1), 1), (IMAGES, raw(2), 2))
    first, *others = open_bag(bag).read()
    assert isinstance(first, BrokenFrame)
    assert [i.frame.stamp_ns for i in frames(others)] == [STAMP + STEP, STAMP + 2 * STEP]
