"""The parts of the demo: its cameras, pictures, recordings, figures and processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from demo_images import SIZE, frames_of, header, picture
from sam2vss_ros.config import NodeConfig
from sam2vss_ros.demo.cameras import Camera, camera_names, node_command, several_cameras
from sam2vss_ros.demo.clips import open_clip
from sam2vss_ros.demo.pictures import Recording, side_by_side, write_grid
from sam2vss_ros.demo.process import Process, ProcessEndedError
from sam2vss_ros.demo.recorder import Video
from sam2vss_ros.demo.report import Record, summarize, summarize_all, table
from sam2vss_ros.demo.stream import Stream
from sam2vss_ros.io.video_writer import VideoWriter

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
    assert not record.answered()
    record.take({"event": "diagnostics", "values": values | {"frames failed": "1"}})
    assert record.answered() and not record.settled(), "the recorder lacks the objects"
    record.take({"event": "objects", "stamp": 1, "seen": 0, "track_ids": []})
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
