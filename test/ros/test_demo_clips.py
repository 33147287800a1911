"""The clips that the demo plays: videos, folders, bags, and the drawn street."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from demo_images import SIZE, header, picture
from sam2vss_ros.demo.clips import fit, open_clip, street_clip
from sam2vss_ros.demo.player import camera_info, endless
from sam2vss_ros.errors import InputError
from sam2vss_ros.ros.conversions import image_message


def test_frames_are_cropped_to_the_cameras_proportions() -> None:
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[:, 32:96] = 200  # the middle that a 4:3 camera sees
    assert (fit(wide, SIZE) == 200).all()
    assert fit(wide, (32, 24)).shape == (24, 32, 3)
    assert (fit(wide, (128, 96)) == 200).all()
    tall = np.zeros((100, 64, 3), np.uint8)
    tall[26:74] = 200
    assert (fit(tall, SIZE) == 200).all()


def test_a_folder_is_played_in_the_order_of_its_names(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((48, 64, 3), i, np.uint8))
    clip = open_clip(tmp_path, SIZE)
    for _ in range(2):  # every reading begins at the first
        assert [int(image.max()) for image in clip.read()] == [0, 1, 2]
    assert clip.count == 3


def write_bag(folder: Path, messages: list[tuple[str, Any]], storage: StoragePlugin) -> Path:
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(folder, version=9, storage_plugin=storage) as bag:
        connections = {}
        for i, (topic, message) in enumerate(messages):
            package, _, name = type(message).__module__.split(".")[0], None, type(message).__name__
            if topic not in connections:
                connections[topic] = bag.add_connection(
                    topic, f"{package}/msg/{name}", typestore=store
                )
            bag.write(connections[topic], i, serialize_message(message))
    return folder


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_bag_is_played_from_its_first_image_topic(tmp_path: Path, storage: StoragePlugin) -> None:
    images = [picture(v) for v in (10, 20, 30)]
    messages: list[tuple[str, Any]] = [("/a/chatter", String(data="no image"))]
    messages += [("/b/image", image_message(p[..., ::-1], "bgr8", header())) for p in images]
    messages += [("/c/image", image_message(picture(99), "rgb8", header()))]
    clip = open_clip(write_bag(tmp_path / "bag", messages, storage), SIZE)
    assert clip.count == 3
    for played, expected in zip(clip.read(), images, strict=True):
        np.testing.assert_array_equal(played, expected)


def test_a_bag_of_compressed_images_is_played(tmp_path: Path) -> None:
    image = picture(60)
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    message = CompressedImage(header=header(), format="png", data=png)
    bag = write_bag(tmp_path / "bag", [("/image/compressed", message)], StoragePlugin.MCAP)
    (played,) = open_clip(bag, SIZE).read()
    np.testing.assert_array_equal(played, image)


def test_a_bare_bag_file_is_played(tmp_path: Path) -> None:
    message = image_message(picture(60), "rgb8", header())
    bag = write_bag(tmp_path / "bag", [("/image", message)], StoragePlugin.MCAP)
    clip = open_clip(next(bag.glob("*.mcap")), SIZE)
    assert len(list(clip.read())) == clip.count == 1


def test_what_cannot_be_played_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere.mp4 does not exist"):
        open_clip(tmp_path / "nowhere.mp4", SIZE)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="text.mp4 cannot be opened as a video"):
        open_clip(tmp_path / "text.mp4", SIZE)
    (tmp_path / "broken.mcap").write_text("no bag")
    with pytest.raises(InputError, match="broken.mcap cannot be read as a bag"):
        open_clip(tmp_path / "broken.mcap", SIZE)
    bag = write_bag(tmp_path / "bag", [("/chatter", String(data="x"))], StoragePlugin.MCAP)
    with pytest.raises(InputError, match=r"holds no topic with images; it holds /chatter"):
        open_clip(bag, SIZE)
    unknown = Image(header=header(), encoding="foo8", width=1, height=1, step=1, data=[0])
    bag = write_bag(tmp_path / "unknown", [("/image", unknown)], StoragePlugin.MCAP)
    with pytest.raises(InputError, match=r"topic /image: .*foo8"):
        list(open_clip(bag, SIZE).read())


def test_the_street_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2vss_ros.demo.clips.STREET_FRAMES", 3)
    path = street_clip(tmp_path, SIZE)
    clip = open_clip(path, SIZE)
    frames = list(clip.read())
    assert len(frames) == clip.count == 3
    assert all(f.shape == (48, 64, 3) and f.std() > 5 for f in frames)
    drawn = path.stat().st_mtime_ns
    assert street_clip(tmp_path, SIZE) == path and path.stat().st_mtime_ns == drawn
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("held", [2, 3, 10])
def test_a_repeated_clip_is_always_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((48, 64, 3), i, np.uint8))
    monkeypatch.setattr("sam2vss_ros.demo.player.HELD", held)
    clip = open_clip(tmp_path, SIZE)
    stream = clip.read()
    memory = [image for _, image in zip(range(held), stream, strict=False)]
    frames: Iterator[npt.NDArray[np.uint8]] = endless(clip, memory, stream)
    assert [int(next(frames).max()) for _ in range(9)] == [0, 1, 2] * 3


def test_the_camera_is_calibrated() -> None:
    info = camera_info(image_message(picture(0), "rgb8", header(5)))
    assert (info.width, info.height, info.header) == (64, 48, header(5))
    np.testing.assert_allclose(info.k[0], 32 / np.tan(np.radians(30)))
    assert (info.k[2], info.k[5]) == (31.5, 23.5)
