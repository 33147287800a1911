"""The scripts of examples/ that need no ROS do what they say, on the first frames of the street."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2vss_ros.demo import clips
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.io.calibration import pinhole
from sam2vss_ros.io.readers import open_frames
from text_models import folder_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FRAMES = 4
ROS = ("blur_people", "listen_to_objects", "publish_folder")

Run = Callable[..., str]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the first frames of the drawn street, where examples look for it."""
    folder = tmp_path_factory.mktemp("street")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "STREET_FRAMES", FRAMES)
        clips.street_clip(folder, (640, 480))
    return folder


@pytest.fixture
def run(
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs an example in an empty folder; returns what it prints."""
    monkeypatch.setattr(tempfile, "tempdir", str(drawn))
    monkeypatch.chdir(tmp_path)

    def run_example(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def test_there_are_ten_and_they_are_short() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 10
    for script in scripts:
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 40, script


@pytest.mark.parametrize("name", sorted(p.stem for p in EXAMPLES.glob("*.py") if p.stem not in ROS))
def test_help(name: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(name, "--help")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_segment_video(run: Run, tmp_path: Path) -> None:
    said = run("segment_video").splitlines()
    assert len(said) == FRAMES
    assert re.fullmatch(r" +0\.10 s  .*Car \d+.*", said[-1])
    assert sum(1 for _ in open_frames(tmp_path / "overlay.mp4").read()) == FRAMES


def test_prompt_object(run: Run, tmp_path: Path) -> None:
    said = run("prompt_object").splitlines()
    assert [line.split()[0] for line in said] == ["1", "2", "3"]
    mask = cv2.imread(str(tmp_path / "masks/000003.png"), cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (480, 640) and mask[261, 48] == 255
    assert f"{np.count_nonzero(mask)} pixels" in said[-1]


def test_count_by_class(run: Run) -> None:
    counts = dict(re.findall(r"^(\w+) +(\d+)$", run("count_by_class"), re.MULTILINE))
    assert int(counts["Car"]) >= 2


def test_objects_3d(run: Run) -> None:
    said = re.findall(r"^ +3  Car \d+: ([\d.]+) m ahead, (\S+) m right$", run("objects_3d"), re.M)
    assert said and all(2 < float(ahead) <= 150 for ahead, _ in said)


def test_objects_3d_of_a_depth_folder(run: Run, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    for index in range(FRAMES):
        path = tmp_path / f"depth/{index:06}.png"
        cv2.imwrite(str(path), np.full((480, 640), 5000, np.uint16))
    camera = PinholeCamera.of(pinhole(640, 480, 60.0).k)
    k = [camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1]
    (tmp_path / "camera.yaml").write_text(f"K: {[float(v) for v in k]}\n")
    video = drawn / "street_640x480.avi"
    said = run("objects_3d", video, "--depth", "depth", "--camera-info", "camera.yaml")
    assert set(re.findall(r": ([\d.]+) m ahead", said)) == {"5.0"}


def test_own_network(run: Run) -> None:
    said = run("own_network", "--frames", 2).splitlines()
    assert len(said) == 2
    for line in said:
        shares = [int(share) for share in re.findall(r"(\d+)%", line)]
        assert len(shares) == 3 and 98 <= sum(shares) <= 102


def test_name_in_words(run: Run) -> None:
    """By the tiny text model of the tests, which knows colours."""
    said = run("name_in_words", "--names", "red,blue", "--text-model", folder_of("tipsv2"))
    names = set(re.findall(r"^(\w+) \d+: [\d.]+ at \(", said, re.MULTILINE))
    assert names and names <= {"red", "blue"}


def test_train_own_classes(tmp_path: Path) -> None:
    """A process of its own, as it starts others."""
    command = [sys.executable, str(EXAMPLES / "train_own_classes.py"), "--steps", "1"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.safetensors").is_file()
    assert re.search(r"^Road +[\d.]+%$", done.stdout, re.MULTILINE)
