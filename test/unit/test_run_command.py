"""`sam2vss run` with the real pipeline and the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cli_streams import HEIGHT, WIDTH, run, street, write_folders, write_video
from sam2vss_ros.io.image_folders import list_images
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.stages.features import Looked
from sam2vss_ros.types import Frame, SemanticFrame

UNLABELLED = 255


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_folders(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4")


def test_run_writes_labels_overlay_and_objects(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "results"
    assert run("run", video, "--out", out, "--device", "cpu", "--max-objects", 4) == 0

    files = list_images(out / "labels")
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(6)]
    catalog = load_catalog("camvid")
    for file in files:
        labels = read_labels(file)
        assert labels.dtype == np.uint8 and labels.shape == (HEIGHT, WIDTH)
        assert np.isin(labels, [*catalog.ids, UNLABELLED]).all()

    overlay = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FPS) == 20.0
    shown = [overlay.read() for _ in range(7)]
    assert [ok for ok, _ in shown] == [True] * 6 + [False]
    assert shown[0][1].shape == (HEIGHT, WIDTH, 3)

    lines = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    assert [line["stamp_ns"] for line in lines] == [i * 50_000_000 for i in range(6)]
    objects = [o for line in lines for o in line["objects"]]
    assert all(len(line["objects"]) <= 4 for line in lines)
    names = {c.id: c.name for c in catalog.classes}
    for o in objects:
        assert o["track_id"] > 0
        assert names.get(o["class_id"], o["class_name"]) == o["class_name"]
        x, y, w, h = o["box"]
        assert 0 <= x <= x + w <= WIDTH and 0 <= y <= y + h <= HEIGHT
        assert o["area"] <= w * h

    printed = capsys.readouterr().out
    assert "6 frames, " in printed and "frames per second" in printed
    for stage in ("encode", "track", "discover", "classify", "fuse"):
        assert stage in printed


@pytest.mark.parametrize(
    ("options", "carried"),
    [
        ([], [False] * 4),
        (["--rate", 10], [False] * 4),
        (["--rate", 30], [False, True] * 2),
        (["--carry", "on"], [False, True] * 2),
    ],
)
def test_of_a_folder_of_no_known_rate_every_image_is_looked_at(
    options: list[object], carried: list[bool], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        Image.fromarray(street(0, 200)).save(images / f"{i}.png")
    assert run("run", images, "--out", tmp_path / "out", "--device", "cpu", *options) == 0
    lines = (tmp_path / "out" / "objects.jsonl").read_text().splitlines()
    assert [json.loads(line)["carried"] for line in lines] == carried


def test_run_replaces_an_earlier_run_and_nothing_else(
    video: Path, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run("run", video, "--out", tmp_path, "--device", "cpu") == 0
    assert run("run", folders["a"], "--out", tmp_path, "--device", "cpu") == 0
    assert len(list_images(tmp_path / "labels")) == 4
    assert len((tmp_path / "objects.jsonl").read_text().splitlines()) == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"

    (tmp_path / "objects.jsonl").unlink()  # now these could be anybody's labels
    assert run("run", video, "--out", tmp_path) == 2
    assert "not from an earlier run" in capsys.readouterr().err
    assert len(list_images(tmp_path / "labels")) == 4


def test_interrupted_run_keeps_what_it_has(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = VssPipeline.process

    def interrupted(pipeline: VssPipeline, frame: Frame, looked: Looked) -> SemanticFrame:
        if frame.stamp_ns == 100_000_000:
            raise KeyboardInterrupt
        return process(pipeline, frame, looked)

    monkeypatch.setattr(VssPipeline, "process", interrupted)
    assert run("run", video, "--out", tmp_path, "--device", "cpu") == 130
    assert len(list_images(tmp_path / "labels")) == 2
    assert len((tmp_path / "objects.jsonl").read_text().splitlines()) == 2
    assert cv2.VideoCapture(str(tmp_path / "overlay.mp4")).read()[0]


def test_images_that_change_size(folders: dict[str, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i, size in enumerate(((160, 120), (121, 91), (160, 120))):
        Image.fromarray(street(i, 200)).resize(size).save(images / f"{i}.png")
    assert run("run", images, "--out", tmp_path / "out", "--device", "cpu") == 0
    sizes = [read_labels(f).shape for f in list_images(tmp_path / "out" / "labels")]
    assert sizes == [(120, 160), (91, 121), (120, 160)]
    overlay = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert [overlay.read()[0] for _ in range(4)] == [True, True, True, False]
