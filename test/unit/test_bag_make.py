"""Bags that are made: what any reader reads in them, and what cannot be made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bag_samples import (
    HEIGHT,
    IMAGES,
    LABELS,
    WIDTH,
    assert_labels,
    frames,
    ids,
    picture,
    run,
)
from sam2vss_ros.io.bag_writer import (
    types,
)
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.calibration import pinhole
from sam2vss_ros.io.labelled_bags import open_bag
from sam2vss_ros.semantics.catalog import load_catalog


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


def test_a_pinhole_camera_sees_what_it_should() -> None:
    camera = pinhole(640, 480, 90.0)
    assert camera.k[0] == pytest.approx(320) and (camera.k[2], camera.k[5]) == (319.5, 239.5)
    with pytest.raises(ValueError, match="between 0 and 180"):
        pinhole(640, 480, 0.0)
