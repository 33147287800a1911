"""Bags: made, read, labelled; whole, odd and broken ones."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pipelines import open_pipeline
from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.io import bags
from sam2vss_ros.io.bag_writer import (
    BagWriter,
    compressed_message,
    header,
    image_message,
    label_message,
    new_bag,
    types,
)
from sam2vss_ros.io.bags import Bag, LabelTopic, open_bag
from sam2vss_ros.io.calibration import pinhole
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame
from sam2vss_ros.io.ros_images import ENCODINGS
from sam2vss_ros.semantics.catalog import load_catalog

WIDTH, HEIGHT = 64, 48
STAMP = 1_700_000_000_123_456_789  # more digits than a float has
STEP = 33_333_333
IMAGES, LABELS = "/camera/image_raw", "/camera/labels"

Pixels = npt.NDArray[Any]


def picture(index: int) -> Pixels:
    """(HEIGHT, WIDTH, 3) uint8 RGB: smooth, and another for every index."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + 2 * x, 40 + 3 * y, 200 - x - y - 5 * index], -1).astype(np.uint8)


def ids(index: int, dtype: type = np.uint8) -> Pixels:
    labels: Pixels = np.zeros((HEIGHT, WIDTH), dtype)
    labels[index % HEIGHT :] = 1 + index % 10
    return labels


def text(content: str) -> Any:
    return types().types["std_msgs/msg/String"](content)


def raw(index: int) -> Any:
    return image_message(picture(index), "rgb8", header(STAMP + index * STEP, "front"))


def labels_of(index: int) -> Any:
    return label_message(ids(index), header(STAMP + index * STEP, "front"))


def write(path: Path, *messages: tuple[str, Any, int], storage: str = "mcap") -> Path:
    """A bag of (topic, message, frames after STAMP when it was recorded)."""
    with new_bag(path, storage) as bag:
        for topic, message, frames in messages:
            bag.write(topic, message, STAMP + frames * STEP)
    return path


def write_stream(path: Path, labelled: bool = True, storage: str = "mcap") -> Path:
    """Four images, with their labels if `labelled`."""
    messages = [(IMAGES, raw(i), i) for i in range(4)]
    messages += [(LABELS, labels_of(i), i) for i in range(4) if labelled]
    return write(path, *messages, storage=storage)


def frames(items: Any) -> list[LabelledFrame]:
    items = list(items)
    assert all(isinstance(item, LabelledFrame) for item in items), items
    return items


def assert_labels(item: LabelledFrame, expected: Pixels) -> None:
    assert item.labels is not None
    np.testing.assert_array_equal(item.labels, expected)


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five images `a_0.png`..., and the labels of four of them."""
    root = tmp_path_factory.mktemp("folders")
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        folder.mkdir()
    for i in range(5):
        cv2.imwrite(str(images / f"a_{i}.png"), picture(i)[..., ::-1])
        if i != 3:
            cv2.imwrite(str(labels / f"a_{i}.png"), ids(i))
    return images, labels


# What is made comes back.


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_made_and_read(
    storage: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, labels = folders
    out = tmp_path / "bags/drive"
    code = run(
        "bag", "make", "--images", images, "--labels", labels, "--classes", "camvid",
        "--rate", 15, "--out", out, "--storage", storage, "--frame-id", "front",
    )  # fmt: skip
    assert code == 0
    assert "5 frames, 4 of them labelled" in capsys.readouterr().out

    stream = open_bag(out, label_topic=LABELS)
    assert (stream.name, stream.count) == ("drive", 5)
    for _ in range(2):  # every reading begins at the first
        read = frames(stream.read())
        stamps = [f.frame.stamp_ns for f in read]
        assert stamps == [10**9 + round(i * 10**9 / 15) for i in range(5)]
        for i, item in enumerate(read):
            np.testing.assert_array_equal(item.frame.image, picture(i))
            assert item.frame.image.flags.writeable
            if i == 3:
                assert item.labels is None
            else:
                assert_labels(item, ids(i))
        assert stream.unmatched() == 0


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_any_reader_reads_what_is_made(
    storage: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    images, labels = folders
    run("bag", "make", "--images", images, "--labels", labels, "--classes", "camvid",
        "--out", tmp_path / "drive", "--storage", storage, "--hfov", 90)  # fmt: skip
    assert yaml.safe_load((tmp_path / "drive/metadata.yaml").read_text())[
        "rosbag2_bagfile_information"
    ]["version"] == 8  # fmt: skip
    catalog = load_catalog("camvid")
    got: dict[str, list[Any]] = {}
    with AnyReader([tmp_path / "drive"]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            got.setdefault(connection.topic, []).append(message)
            (qos,) = connection.ext.offered_qos_profiles
            latched = connection.topic.endswith(("label_info", "class_catalog"))
            assert qos.reliability == QosReliability.RELIABLE
            assert (qos.durability == QosDurability.TRANSIENT_LOCAL) == latched
    assert {topic: len(messages) for topic, messages in got.items()} == {
        "/camera/class_catalog": 1,
        "/camera/label_info": 1,
        "/camera/camera_info": 5,
        IMAGES: 5,
        LABELS: 4,
    }
    image, info = got[IMAGES][1], got["/camera/camera_info"][1]
    assert (image.encoding, image.step, image.header.frame_id) == (
        "rgb8",
        3 * WIDTH,
        "camera_optical_frame",
    )
    assert info.header == image.header and (info.width, info.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(info.k, [32, 0, 31.5, 0, 32, 23.5, 0, 0, 1])
    np.testing.assert_allclose(info.p, [32, 0, 31.5, 0, 0, 32, 23.5, 0, 0, 0, 1, 0])
    assert got[LABELS][1].encoding == "mono8" and got[LABELS][1].header == image.header
    (own,), (info,) = got["/camera/class_catalog"], got["/camera/label_info"]
    assert (own.name, own.unlabelled_id) == ("camvid", catalog.ignore_id)
    assert [(e.id, e.name, (e.r, e.g, e.b), e.thing) for e in own.entries] == [
        (c.id, c.name, c.color, c.thing) for c in catalog.classes
    ]
    assert [(c.class_id, c.class_name) for c in info.class_map] == [
        (c.id, c.name) for c in catalog.classes
    ]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_compressed(kind: str, folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "drive"
    assert run("bag", "make", "--images", folders[0], "--compressed", kind, "--out", out) == 0
    assert Bag(out).image_topics() == ["/camera/image_raw/compressed"]
    for i, item in enumerate(frames(open_bag(out).read())):
        difference = np.abs(item.frame.image.astype(int) - picture(i)).max()
        assert difference == 0 if kind == "png" else 0 < difference < 12


def test_wide_labels_stay_wide(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    cv2.imwrite(str(images / "0.png"), picture(0))
    wide = ids(3, np.uint16) * 9000
    cv2.imwrite(str(labels / "0.png"), wide)
    run("bag", "make", "--images", images, "--labels", labels, "--out", tmp_path / "bag")
    (item,) = frames(open_bag(tmp_path / "bag", label_topic=LABELS).read())
    assert item.labels is not None and item.labels.dtype == np.uint16
    assert_labels(item, wide)


def test_a_video_with_labels_by_index(tmp_path: Path) -> None:
    video = cv2.VideoWriter(
        str(tmp_path / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (WIDTH, HEIGHT)
    )
    for i in range(3):
        video.write(picture(i))
    video.release()
    labels = tmp_path / "labels"
    labels.mkdir()
    cv2.imwrite(str(labels / "000001.png"), ids(1))
    run("bag", "make", "--images", tmp_path / "drive.avi", "--labels", labels, "--out",
        tmp_path / "bag")  # fmt: skip
    read = frames(open_bag(tmp_path / "bag", label_topic=LABELS).read())
    assert [f.frame.stamp_ns for f in read] == [10**9, 10**9 + 50_000_000, 10**9 + 100_000_000]
    assert [f.labels is not None for f in read] == [False, True, False]


CALIBRATION = {
    "image_width": WIDTH,
    "image_height": HEIGHT,
    "camera_name": "front",
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.1, -0.2, 0, 0.01, 0]},
    "camera_matrix": {"rows": 3, "cols": 3, "data": [50, 0, 30, 0, 51, 20, 0, 0, 1]},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [48, 0, 30, 0, 0, 49, 20, 0, 0, 0, 1, 0]},
}


def test_a_calibration_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(yaml.safe_dump(CALIBRATION))
    out = tmp_path / "bag"
    assert run("bag", "make", "--images", folders[0], "--camera-info", file, "--out", out) == 0
    with AnyReader([out]) as reader:
        connection = next(c for c in reader.connections if c.topic == "/camera/camera_info")
        _, _, data = next(reader.messages([connection]))
        info: Any = reader.deserialize(data, connection.msgtype)
    assert info.d.tolist() == [0.1, -0.2, 0, 0.01, 0] and info.k[4] == 51 and info.p[5] == 49


def test_our_messages_are_those_of_the_package(root: Path) -> None:
    built = get_typestore(Stores.ROS2_HUMBLE)
    for path in sorted(root.glob("msg/*.msg"), reverse=True):
        built.register(get_types_from_msg(path.read_text(), f"sam2vss_ros/msg/{path.stem}"))
    name = "sam2vss_ros/msg/ClassCatalog"
    assert types().hash_rihs01(name) == built.hash_rihs01(name)
    # The hash that rosidl gives vision_msgs 4.
    assert types().hash_rihs01("vision_msgs/msg/LabelInfo") == (
        "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"
    )


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
    far = 2 * bags.LABEL_WINDOW_NS // STEP
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
    monkeypatch.setattr(bags, "LABEL_WINDOW_NS", 5 * STEP)
    odd = [(LABELS, label_message(ids(0), header(STAMP + i * STEP + 1, "")), i) for i in range(60)]
    bag = Bag(write(tmp_path / "bag", *odd))
    source, most = LabelTopic(bag, LABELS), 0
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


def cut(file: Path, keep: float) -> None:
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])


def without_footer(path: Path) -> Path:
    cut(write_stream(path) / f"{path.name}.mcap", 0.6)
    return path


def without_end(path: Path) -> Path:
    cut(write_stream(path, storage="sqlite3") / f"{path.name}.db3", 0.6)
    return path


def without_metadata(path: Path) -> Path:
    (write_stream(path) / "metadata.yaml").unlink()
    return path


def damaged_inside(path: Path) -> Path:
    """A bag whose index is whole, and whose second half of the messages is overwritten."""
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


def of_video(path: Path) -> Path:
    path = path.with_suffix(".mp4")
    path.write_text("no bag")
    return path


@pytest.mark.parametrize(
    "make",
    [without_footer, without_end, without_metadata, damaged_inside, of_text, of_video, Path],
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
        ({"image_topic": "/left", "label_topic": "/right"}, "'rgb8' is not one of mono8, 8UC1"),
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


# Making what cannot be made.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--images {images} --out {images}", "exists already; bags are not overwritten"),
        ("--images {images} --out {text}/bag", "text/bag cannot be written"),
        ("--images {missing} --out {out}", "missing does not exist"),
        ("--images {images} --out {out} --rate -3", "rate: -3.0 is not a positive number"),
        ("--images {images} --out {out} --hfov 180", "hfov: 180.0 is not between 0 and 180"),
        ("--images {images} --out {out} --classes mars", "classes: class file .*camvid"),
        ("--images {images} --out {out} --labels {missing}", "missing is not a folder"),
        ("--images {images} --out {out} --camera-info {missing}", "camera-info: .* does not exist"),
        ("--images {images} --out {out} --camera-info {text}", "not a camera calibration"),
        ("--images {images} --out {out} --camera-info {large}", "for 640x48 pixels, the images ha"),
        ("--images {images} --out {out} --storage zip", "invalid choice: 'zip'"),
        ("--images {broken} --out {out}", "b.png cannot be read as an image"),
    ],
)
def test_bad_input_leaves_no_bag(
    arguments: str,
    message: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {name: tmp_path / name for name in ("text", "out", "missing", "large", "broken")}
    paths["images"] = folders[0]
    paths["text"].write_text("text")
    paths["large"].write_text(yaml.safe_dump(CALIBRATION | {"image_width": 640}))
    paths["broken"].mkdir()
    cv2.imwrite(str(paths["broken"] / "a.png"), picture(0))
    (paths["broken"] / "b.png").write_text("no image")
    try:
        code = run("bag", "make", *arguments.format(**paths).split())
    except SystemExit as end:  # argparse's own errors
        assert isinstance(end.code, int)
        code = end.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("sam2vss: error: ")
    assert re.search(message, last), last
    assert not paths["out"].exists()


@pytest.mark.parametrize("command", [[], ["make"], ["label"]])
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("bag", *command, "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and "ros2 bag play" in shown


# Labelling a recorded bag.


def bytes_of(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    messages: dict[str, list[tuple[int, bytes]]] = {}
    for connection, time, data in Bag(path).messages():
        messages.setdefault(connection.topic, []).append((time, data))
    return messages


def recording(path: Path, storage: str) -> Path:
    """Images, one of them broken, and something that is not ours to understand."""
    broken = raw(2)
    broken.data = broken.data[:100]
    images = [raw(0), raw(1), broken, raw(3)]
    return write(
        path,
        *((IMAGES, message, i) for i, message in enumerate(images)),
        *(("/chatter", text(f"{i}"), i) for i in range(3)),
        storage=storage,
    )


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recorded_bag_is_labelled(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = recording(tmp_path / "bag", storage), tmp_path / "out"
    code = run("bag", "label", bag, "--out", out, "--storage", storage, "--overlay",
               "--device", "cpu", "--threads", 1, "--max-objects", 3)  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "3 images of /camera/image_raw labelled" in printed
    assert "1 skipped: truncated data" in printed

    before, after = bytes_of(bag), bytes_of(out)
    added = {"/vss/label_image", "/vss/overlay", "/vss/class_catalog", "/vss/label_info"}
    assert {t: after[t] for t in after if t not in added} == before
    assert added < after.keys() and len(after["/vss/overlay"]) == 3
    assert [time for time, _ in after["/vss/label_image"]] == [STAMP + i * STEP for i in (0, 1, 3)]
    pipeline = open_pipeline(PipelineConfig(device="cpu", threads=1, max_objects=3))
    labelled = 0
    for item in open_bag(out, IMAGES, label_topic="/vss/label_image").read():
        if isinstance(item, LabelledFrame):
            labels = pipeline.process(item.frame).label_image
            assert_labels(item, labels)
            labelled += 1
    assert labelled == 3
    with AnyReader([out]) as reader:
        connections = {c.topic: c for c in reader.connections}
        _, _, data = next(reader.messages([connections["/vss/label_image"]]))
        label: Any = reader.deserialize(data, "sensor_msgs/msg/Image")
        assert label.header.frame_id == "front"
        qos = connections["/vss/class_catalog"].ext.offered_qos_profiles[0]
        assert qos.durability == QosDurability.TRANSIENT_LOCAL
        original = connections["/chatter"]
    assert original.ext.offered_qos_profiles[0].reliability == QosReliability.RELIABLE


def make_old(bag: Path) -> None:
    """As Humble leaves a sqlite3 bag: no definitions, no hashes; one type that nobody knows."""
    with sqlite3.connect(bag / f"{bag.name}.db3") as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("DROP TABLE schema")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        database.execute("UPDATE topics SET type = 'acme/msg/Odd' WHERE name = '/chatter'")
    data = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = data["rosbag2_bagfile_information"]
    information["version"] = 5
    for topic in information["topics_with_message_count"]:
        del topic["topic_metadata"]["type_description_hash"]
        if topic["topic_metadata"]["name"] == "/chatter":
            topic["topic_metadata"]["type"] = "acme/msg/Odd"
    (bag / "metadata.yaml").write_text(yaml.safe_dump(data))


def test_a_bag_of_humble_is_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = recording(tmp_path / "bag", "sqlite3")
    make_old(bag)
    assert run("bag", "label", bag, "--out", tmp_path / "out", "--device", "cpu") == 0
    assert "not copied, of unknown type: /chatter" in capsys.readouterr().out
    before, after = bytes_of(bag), bytes_of(tmp_path / "out")
    assert after[IMAGES] == before[IMAGES] and "/chatter" not in after
    with AnyReader([tmp_path / "out"]) as reader:
        assert reader.message_count == 4 + 3 + 2


def test_a_bag_that_cannot_be_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write(tmp_path / "bag", (IMAGES, raw(0), 0), ("/vss/label_image", labels_of(0), 0))
    out = tmp_path / "out"
    arguments = ["bag", "label", bag, "--image-topic", IMAGES, "--out", out, "--device", "cpu"]
    assert run(*arguments) == 2
    assert "has a topic /vss/label_image: give another --namespace" in capsys.readouterr().err
    assert not out.exists()
    assert run(*arguments, "--namespace", "/second") == 0
    assert len(bytes_of(out)["/second/label_image"]) == 1
    assert run(*arguments, "--namespace", "/third") == 2
    assert "exists already" in capsys.readouterr().err
    assert run("bag", "label", bag, "--image-topic", "/no", "--out", tmp_path / "x") == 2
    assert "no topic /no; it holds" in capsys.readouterr().err


def test_what_is_begun_and_fails_is_removed(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt(), OSError("the disk is full")):
        expected: Any = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected), new_bag(tmp_path / "new/bag", "mcap") as bag:
            assert isinstance(bag, BagWriter)
            bag.write(IMAGES, raw(0), STAMP)
            raise error
        assert not (tmp_path / "new/bag").exists()


def test_a_pinhole_camera_sees_what_it_should() -> None:
    camera = pinhole(640, 480, 90.0)
    assert camera.k[0] == pytest.approx(320) and (camera.k[2], camera.k[5]) == (319.5, 239.5)
    with pytest.raises(ValueError, match="between 0 and 180"):
        pinhole(640, 480, 0.0)
