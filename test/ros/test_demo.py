"""The demo: its parts, and the whole of it with the real node."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from sam2vss_ros.config import NodeConfig, PipelineConfig
from sam2vss_ros.demo.cameras import Camera, camera_names, node_command, several_cameras
from sam2vss_ros.demo.clips import fit, open_clip, street_clip
from sam2vss_ros.demo.pictures import Recording, side_by_side, write_grid
from sam2vss_ros.demo.player import camera_info, endless
from sam2vss_ros.demo.process import Process, ProcessEndedError
from sam2vss_ros.demo.recorder import Video
from sam2vss_ros.demo.report import Record, summarize, summarize_all, table
from sam2vss_ros.demo.stream import Stream
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame

SIZE = (64, 48)


def picture(value: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    image = np.full((height, width, 3), value, np.uint8)
    image[:, : width // 2, 0] = 255 - value
    return image


def header(nanoseconds: int = 0) -> Header:
    seconds, rest = divmod(nanoseconds, 10**9)
    return Header(stamp=Time(sec=seconds, nanosec=rest), frame_id="camera")


# What the camera shows.


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


# Several cameras.


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["driving.mp4", "clips/blocks.avi"], ["driving", "blocks"]),
        (["a.mp4", "a.mp4", "b/a.png"], ["a", "a_2", "a_3"]),
        (["a.mp4", "a_2.mp4", "a.mp4"], ["a", "a_2", "a_3"]),
        (["a_2.mp4", "a.mp4", "a.mp4"], ["a_2", "a", "a_3"]),
        (["0001.mp4", "my drive (2).mp4"], ["camera_0001", "my_drive_2"]),
        (["__x--y__.mp4", "東京.mp4", ".."], ["x_y", "camera", "camera_2"]),
    ],
)
def test_cameras_are_named_after_their_files(sources: list[str], names: list[str]) -> None:
    assert camera_names([Path(source) for source in sources]) == names
    assert NodeConfig(cameras=tuple(names)).cameras == tuple(names)


def test_one_camera_is_played_into_a_node_without_cameras() -> None:
    assert node_command([Camera("", Path("a.mp4"), Path("out"))], ["mode:=refine"]) == [
        "vss_node", "--ros-args",
        "-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info",
        "-p", "mode:=refine",
    ]  # fmt: skip


def test_one_node_or_one_for_each() -> None:
    sources = [Path("front.mp4"), Path("on.mp4")]
    together = several_cameras(sources, Path("out"), separate=False)
    assert [c.folder for c in together] == [Path("out/front"), Path("out/on")]
    assert node_command(together, []) == [
        "vss_node", "--ros-args",
        "-r", "front/image:=/front/image_raw", "-r", "front/camera_info:=/front/camera_info",
        "-r", "on/image:=/on/image_raw", "-r", "on/camera_info:=/on/camera_info",
        "-p", 'cameras:=["front", "on"]',
    ]  # fmt: skip
    front, rear = several_cameras(sources, Path("out"), separate=True)
    assert (front.node, rear.node) == ("/front/vss", "/on/vss")
    assert node_command([front], []) == [
        "vss_node", "--ros-args", "-r", "__ns:=/front",
        "-r", "image:=/front/image_raw", "-r", "camera_info:=/front/camera_info",
    ]  # fmt: skip


def test_a_node_has_failed_that_goes_on_saying_it_is_unconfigured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is no sign: a node that configures itself answers nobody."""
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    stream = Stream(Camera("a", tmp_path, tmp_path), open_clip(tmp_path, SIZE))
    idle = []
    for seconds, label in enumerate(["unconfigured", "unconfigured", "inactive", "unconfigured"]):
        monkeypatch.setattr(time, "monotonic", lambda now=10.0 * seconds: now)
        stream.take({"event": "state", "label": label})
        monkeypatch.setattr(time, "monotonic", lambda now=10.0 * seconds + 9: now)
        idle.append(stream.idle)
    assert idle == [0, 10, 0, 0]


def test_pictures_side_by_side_keep_their_proportions_and_have_names() -> None:
    three = [picture(v, 1600, 1200) for v in (40, 120, 200)]
    grid = side_by_side(three, ["left", "right", "a_name_far_too_long_for_its_picture" * 4])
    assert grid.shape[1] == pytest.approx(1920, abs=40)
    assert grid.shape[1] / grid.shape[0] == pytest.approx(4 / 3, abs=0.01)
    height, width = grid.shape[0] // 2, grid.shape[1] // 2
    cells = [grid[y:, x:][:height, :width] for y in (0, height) for x in (0, width)]
    for cell, value in zip(cells, (40, 120, 200), strict=False):
        assert (cell[height // 2, 3 * width // 4] == value).all()
        assert cell[: height // 6, : width // 2].min(axis=2).max() > 200, "its name, in white"
    assert cells[3][10:-10, 10:-10].std() == 0, "an empty place"


def test_the_grid_is_in_step_by_the_stamps(tmp_path: Path) -> None:
    """At 10 Hz the second camera begins three pictures after the first and ends two later."""
    recordings = []
    for name, begins, count in (("a", 5 * 10**9, 4), ("b", 5 * 10**9 + 310_000_000, 3)):
        video = tmp_path / f"{name}.mp4"
        with VideoWriter(video, 10) as writer:
            for i in range(count):
                writer.write(np.full((120, 160, 3), 90 + 40 * i, np.uint8))
        recordings.append(Recording(name, video, begins))
    write_grid(recordings, tmp_path / "grid.mp4", 10)
    seen = [
        (image[80, 80].mean(), image[80, 250].mean()) for image in frames_of(tmp_path / "grid.mp4")
    ]
    expected = [(90, 0), (130, 0), (170, 0), (210, 90), (105, 130), (105, 170)]
    np.testing.assert_allclose(seen, expected, atol=12)  # encoded twice


def frames_of(video: Path) -> list[npt.NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (grabbed := capture.read())[0]:
        frames.append(grabbed[1])
    return frames


# What is recorded.


def test_the_video_keeps_time(tmp_path: Path) -> None:
    video = Video(tmp_path / "v.mp4", rate=10)
    video.show(picture(0), header(10**9))
    video.show(picture(120), header(1_300_000_000))
    video.show(picture(240), header(1_400_000_000))
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    values = []
    while (grabbed := capture.read())[0]:
        values.append(round(float(grabbed[1][10, 60].mean()) / 120))
    assert values == [0, 0, 0, 1, 2]


def test_the_figures_follow_from_the_events() -> None:
    record = Record()
    second = 10**9
    events: list[dict[str, Any]] = [
        {"event": "catalog", "name": "c", "unlabelled_id": 255, "classes": [
            {"id": 3, "name": "Road", "color": [1, 2, 3], "thing": False}]},
        *({"event": "played", "stamp": i * second} for i in range(5)),
        *({"event": "label", "stamp": i * second, "received": i * second + 10**8 * (i + 1)}
          for i in (0, 2, 4)),
        {"event": "objects", "stamp": 0, "seen": 2, "track_ids": [1, 2, 3]},
        {"event": "objects", "stamp": 2 * second, "seen": 4, "track_ids": [2, 3, 4, 5]},
        {"event": "objects", "stamp": 77, "seen": 1, "track_ids": [1]},
        {"event": "diagnostics", "values": {"frames in": "5", "frames processed": "3",
                                            "frames dropped": "1", "frames failed": "1"}},
        {"event": "labelled", "pixels": {"3": 75, "255": 25}},
    ]  # fmt: skip
    for event in events:
        record.take(event)
    summary = summarize(record, 123.45)
    assert summary["frames_in"] == 5
    assert summary["frames_processed"] == 3
    assert (summary["frames_dropped"], summary["frames_failed"]) == (1, 1)
    assert summary["frames_unmatched"] == 2  # labels of stamp 4 s alone; objects of no image
    assert summary["fps"] == round(2 / 4.4, 2)
    assert summary["latency_ms_p50"] == 300.0
    assert summary["latency_ms_p95"] == 480.0
    assert (summary["objects_max"], summary["track_ids_total"]) == (4, 5)
    assert summary["rss_mb"] == 123.5 or summary["rss_mb"] == 123.4
    assert summary["class_share"] == {"Road": 0.75, "unlabelled": 0.25}
    assert "75.0%" in table(summary)


def test_the_figures_of_all_cameras_are_sums_and_those_of_all_answers() -> None:
    second, records = 10**9, {"front": Record(), "rear": Record()}
    for (name, record), delay in zip(records.items(), (1, 3), strict=True):
        for i in range(delay + 1):
            record.take({"event": "played", "stamp": i * second})
            record.take({"event": "label", "stamp": i * second, "received": (i + delay) * second})
            record.take({"event": "objects", "stamp": i * second, "seen": 1, "track_ids": [i]})
        classes = [{"id": 3, "name": name, "color": [1, 2, 3], "thing": False}]
        record.take({"event": "catalog", "name": "c", "unlabelled_id": 255, "classes": classes})
        record.take({"event": "labelled", "pixels": {"3": 1}})
    summaries = {name: summarize(record, 100) for name, record in records.items()}
    summary = summarize_all(summaries, list(records.values()), [100])
    assert summary["cameras"] == summaries
    assert (summary["frames_in"], summary["frames_processed"]) == (6, 6)
    assert summary["fps"] == 1.0  # six answers from second 1 to 6
    assert (summary["latency_ms_p50"], summary["latency_ms_p95"]) == (3000, 3000)
    assert (summary["nodes"], summary["rss_mb"]) == (1, 100)
    rows = {row[:26].strip(): row[26:].split() for row in table(summary).splitlines()}
    assert rows[""] == ["front", "rear", "all"]
    assert rows["processed"] == ["2", "4", "6"]
    assert rows["memory of the node (MB)"] == ["100"]
    assert rows["front"] == rows["rear"] == ["100.0%"]
    separate = summarize_all(summaries, list(records.values()), [100, 100])
    assert (separate["nodes"], separate["rss_mb"]) == (2, 200)
    assert "memory of the node (MB)          100       100       200" in table(separate)


def test_the_run_is_over_when_the_node_owes_nothing() -> None:
    record = Record()
    values = {"frames in": "2", "frames processed": "1", "frames dropped": "0"}
    record.take({"event": "diagnostics", "values": values | {"frames failed": "0"}})
    record.take({"event": "label", "stamp": 1, "received": 2})
    record.take({"event": "objects", "stamp": 1, "seen": 0, "track_ids": []})
    assert not record.settled()
    record.take({"event": "diagnostics", "values": values | {"frames failed": "1"}})
    assert record.settled()


# Its processes.


def process(tmp_path: Path, program: str, events: list[dict[str, Any]]) -> Process:
    command = [sys.executable, "-c", program]
    return Process("child", command, {}, tmp_path / "log", events.append)


def wait_for_end(child: Process) -> None:
    end = time.monotonic() + 20
    while child.running and time.monotonic() < end:
        time.sleep(0.01)
    child.stop()


def test_a_process_reports_events_and_logs_the_rest(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    program = (
        "import sys; from sam2vss_ros.demo.process import emit\n"
        "print('hello'); print(7); emit('played', stamp=5); print('oops', file=sys.stderr)"
    )
    sys_path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    child = process(tmp_path, sys_path + program, events)
    wait_for_end(child)
    child.check()
    assert events == [{"event": "played", "stamp": 5}]
    assert set((tmp_path / "log").read_text().split()) == {"hello", "7", "oops"}
    assert child.resident_mb() == 0


def test_a_process_waits_for_the_go(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    program = (
        "from sam2vss_ros.demo.process import emit, wait_for_go\n"
        "emit('up'); emit('gone', told=wait_for_go())"
    )
    child = process(tmp_path, f"import sys; sys.path[:0] = {sys.path!r}\n{program}", events)
    end = time.monotonic() + 20
    while not events and time.monotonic() < end:
        time.sleep(0.01)
    assert events == [{"event": "up"}]
    child.go()
    wait_for_end(child)
    assert events[1:] == [{"event": "gone", "told": True}]


def test_a_process_that_fails_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    child = process(tmp_path, "raise SystemExit('no model')", [])
    wait_for_end(child)
    with pytest.raises(ProcessEndedError, match=r"child ended with 1\nno model\n.*log"):
        child.check()


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    program = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        'print(\'{"event": "up"}\', flush=True); time.sleep(100)'
    )
    child = process(tmp_path, program, events)
    while not events:
        child.check()
    assert child.resident_mb() > 1
    child.stop(0.2)
    assert not child.running


# All of it.


def demo(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sam2vss_ros.demo", "--out", out, *arguments]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=240
    )


def test_the_demo_with_the_real_node(root: Path, tmp_path: Path) -> None:
    """A few pictures at 5 Hz, slow enough for every one to be answered."""
    clip, out = tmp_path / "clip", tmp_path / "out"
    clip.mkdir()
    street = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    base = cv2.resize(street, (320, 240), interpolation=cv2.INTER_CUBIC)
    for i in range(10):
        cv2.imwrite(str(clip / f"{i:02}.png"), np.roll(base, 2 * i, axis=1))

    result = demo(out, clip, "--size", "320x240", "--rate", 5)

    assert result.returncode == 0, result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames_in"] == 10
    assert summary["frames_processed"] + summary["frames_dropped"] == 10
    assert summary["frames_processed"] >= 2
    assert (summary["frames_failed"], summary["frames_unmatched"]) == (0, 0)
    assert 0 < summary["latency_ms_p50"] <= summary["latency_ms_p95"]
    assert summary["rss_mb"] > 100
    assert sum(summary["class_share"].values()) == pytest.approx(1, abs=0.01)
    lines = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert len(lines) == summary["frames_processed"]
    assert sorted(line["stamp"] for line in lines) == [line["stamp"] for line in lines]
    capture = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert capture.read()[1].shape == (240, 320, 3)
    assert cv2.imread(str(out / "contact_sheet.png")).std() > 5
    assert "frames per second" in result.stdout


def write_still(folder: Path, image: npt.NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def still_clips() -> dict[str, npt.NDArray[np.uint8]]:
    """Two images as different in their colours as in what the network sees in them."""
    street = next(iter(street_video(1, 1, (240, 320))))[0]
    return {"street": street, "wall": np.full((240, 320, 3), (150, 40, 40), np.uint8)}


def test_two_cameras_in_one_node(root: Path, tmp_path: Path) -> None:
    """Every camera's labels are, to the pixel, those of a pipeline that sees its clip alone."""
    out, images = tmp_path / "out", still_clips()
    clips = [write_still(tmp_path / name, image) for name, image in images.items()]

    result = demo(out, *clips, "--size", "320x240", "--rate", 4, "-p", "mode:=network")

    assert result.returncode == 0, result.stderr
    assert "playing street as street" in result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["cameras"]) == ["street", "wall"]
    assert (summary["nodes"], summary["frames_in"]) == (1, 8)
    assert (summary["frames_failed"], summary["frames_unmatched"]) == (0, 0)
    shares = [camera["class_share"] for camera in summary["cameras"].values()]
    assert shares[0] != shares[1]
    config = PipelineConfig(mode="network", device="cpu")
    perception = Perception.load(config)
    names = {c.id: c.name for c in perception.catalog.classes}
    for name, image in images.items():
        camera = summary["cameras"][name]
        assert camera["frames_in"] == 4 and camera["frames_processed"] >= 2
        labels = VssPipeline(perception, config).process(Frame(image, 0)).label_image
        ids, counts = np.unique(labels, return_counts=True)
        expected = {
            names.get(int(i), "unlabelled"): n / labels.size
            for i, n in zip(ids, counts, strict=True)
        }
        assert camera["class_share"] == pytest.approx(expected, abs=0.01)
        lines = (out / name / "objects.jsonl").read_text().splitlines()
        assert len(lines) == camera["frames_processed"]
        assert {json.loads(line)["frame_id"] for line in lines} == {f"{name}_optical_frame"}
        assert frames_of(out / name / "overlay.mp4")[0].shape == (240, 320, 3)
        assert cv2.imread(str(out / name / "contact_sheet.png")).std() > 1
    grid = frames_of(out / "overlay.mp4")[-1]
    assert grid.shape[0] < 260 and grid.shape[1] > 640
    assert cv2.imread(str(out / "contact_sheet.png")).std() > 5
    assert not (out / "objects.jsonl").exists()
    assert re.search(r"^ +street +wall +all$", result.stdout, re.M)


def test_a_node_for_each_camera(root: Path, tmp_path: Path) -> None:
    clip = write_still(tmp_path / "street", still_clips()["street"])
    out = tmp_path / "out"
    options = ("--size", "320x240", "--rate", 4, "-p", "mode:=network")
    result = demo(out, clip, "--separate", clip, *options)
    assert result.returncode == 0, result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["nodes"] == 2
    cameras = summary["cameras"]
    assert list(cameras) == ["street", "street_2"]
    assert all(camera["frames_processed"] >= 2 for camera in cameras.values())
    assert all(camera["rss_mb"] > 100 for camera in cameras.values())
    assert summary["rss_mb"] == pytest.approx(sum(c["rss_mb"] for c in cameras.values()), abs=0.2)
    for name in cameras:
        assert f"images from /{name}/image_raw" in (out / name / "node.log").read_text()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nowhere.mp4"], "nowhere.mp4 does not exist"),
        ([Path(__file__).parent, "nowhere.mp4"], "holds no images"),
        (["nowhere.mp4", "--separate"], "--separate starts a node for each of several cameras"),
        (["-p", "cameras:=[a]"], "cameras: the demo names them after its sources"),
        (["--size", "640"], "'640' is not a size like 640x480"),
        (["--rate", "0"], "'0' is not a number above zero"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path: Path, arguments: list[Any], said: str) -> None:
    result = demo(tmp_path, *arguments)
    assert result.returncode in (1, 2)
    assert said in result.stderr and "Traceback" not in result.stderr


def test_a_clip_that_breaks_off_is_reported(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    (tmp_path / "1.png").write_text("no picture")
    result = demo(tmp_path / "out", tmp_path)
    assert result.returncode == 1
    assert "1.png cannot be read as an image" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_node_that_does_not_start_is_reported(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    result = demo(tmp_path / "out", tmp_path, "-p", "model:=no_such_model")
    assert result.returncode == 1
    assert "the node does not become active" in result.stderr
    assert "no_such_model" in result.stderr


@pytest.mark.parametrize("deadly", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_runs_on_when_the_demo_is_ended(tmp_path: Path, deadly: signal.Signals) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    command = [sys.executable, "-m", "sam2vss_ros.demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, str(tmp_path)], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        while "starting the node" not in (line := child.stderr.readline()):
            assert line, "the demo ended by itself"
        family = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        while len(processes := family.read_text().split()) < 3:
            assert child.poll() is None
        child.send_signal(deadly)
        child.communicate(timeout=60)
        assert child.returncode == 128 + deadly
    left = [p for pid in processes if (p := Path(f"/proc/{pid}")).exists()]
    assert not [(p / "cmdline").read_text().replace("\0", " ") for p in left]
