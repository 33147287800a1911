"""The whole demo with the real node."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from demo_images import frames_of, picture
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame


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

    result = demo(out, *clips, "--size", "320x240", "--rate", 1, "-p", "mode:=network")

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
        (["--size", "640"], "'640' is not a width and a height in pixels"),
        (["--rate", "0"], "'0' is not a number above zero"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path: Path, arguments: list[Any], said: str) -> None:
    result = demo(tmp_path, *arguments)
    assert result.returncode in (1, 2)
    assert said in result.stderr and "Traceback" not in result.stderr


def test_results_that_are_no_demos_stay(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlay.mp4").write_text("precious")
    result = demo(out, tmp_path)
    assert result.returncode == 1
    assert "is not from an earlier run" in result.stderr and "--overwrite" in result.stderr
    assert (out / "overlay.mp4").read_text() == "precious"
    result = demo(tmp_path / "0.png", tmp_path)
    assert result.returncode == 1 and "0.png is a file" in result.stderr


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
