"""`sam2vss evaluate` with the real pipeline and the embedded model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import cli_streams
from cli_streams import HEIGHT, WIDTH, WITHOUT_LIBRARIES, write_folders, write_video
from sam2vss_ros.io.bag_writer import header, image_message, label_message, new_bag
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.image_folders import list_images
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.semantics.catalog import load_catalog
from small_sam2 import SMALL_SAM2

IN_ANY_SCENE = ("--min-class-score", "0")
"""Small drawn streets are not what the semantics know."""


def run(*command: object) -> int:
    """A command of the pipeline, in this process; its exit code."""
    return cli_streams.run(*command, *IN_ANY_SCENE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_folders(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4")


@pytest.fixture(scope="module")
def own_labels(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pipeline itself says of both streams, each run on its own, as a label folder."""
    root = tmp_path_factory.mktemp("own")
    (root / "labels").mkdir()
    for name in ("a", "b"):
        assert run("run", folders[name], "--out", root / name, "--device", "cpu") == 0
        for i, file in enumerate(list_images(root / name / "labels")):
            file.rename(root / "labels" / f"{name}_{i}.png")
    return root / "labels"


def test_evaluate_runs_each_stream_from_a_clean_start(
    folders: dict[str, Path],
    own_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scored against its own answers, stream by stream, the pipeline is right everywhere."""
    report = tmp_path / "report.json"
    code = run(
        "evaluate", "--images", folders["both"], "--labels", own_labels, "--classes", "camvid",
        "--device", "cpu", "--json", report,
    )  # fmt: skip
    assert code == 0
    result = json.loads(report.read_text())
    assert result["miou"] == 1.0
    assert (result["frames"], result["frames_scored"], result["streams"]) == (8, 8, 2)
    assert result["fps"] > 0 and result["model"] == "mobile"
    catalog = load_catalog("camvid")
    assert list(result["per_class_iou"]) == [c.name for c in catalog.classes]
    found = {i for f in list_images(own_labels) for i in np.unique(read_labels(f)).tolist()}
    for c in catalog.classes:
        assert result["per_class_iou"][c.name] == (1.0 if c.id in found else None)
    printed = capsys.readouterr().out
    for c in catalog.classes:
        assert c.name in printed


def test_evaluate_counts_what_it_cannot_score(
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One frame has labels: half of them sky, a quarter void, a quarter of an unknown id."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[60:90], labels[90:] = 11, 77
    folder = tmp_path / "labels"
    folder.mkdir()
    cv2.imwrite(str(folder / "a_2.png"), labels)
    cv2.imwrite(str(folder / "z_9.png"), labels)  # without an image
    code = run(
        "evaluate", "--images", folders["a"], "--labels", folder, "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "report.json").read_text())
    assert (result["frames"], result["frames_scored"]) == (4, 1)
    assert [n for n, v in result["per_class_iou"].items() if v is not None] == ["Sky"]
    assert f"{30 * WIDTH} pixels with id 77" in capsys.readouterr().out


def test_evaluate_puts_variants_side_by_side(
    folders: dict[str, Path],
    own_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(
        "evaluate", "--images", folders["both"], "--labels", own_labels, "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "figures.json", "--report", tmp_path / "report",
        "--compare", "network,paper-refine,refine", "fused", "mode=fused max_objects=1",
        "--fail-under", "miou=0.05", "--fail-under", "frames_scored=8",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "figures.json").read_text())
    assert result == json.loads((tmp_path / "report" / "report.json").read_text())
    names = ["network", "paper-refine", "refine", "fused", "mode=fused max_objects=1"]
    network, paper, refine, fused, few = variants = result["variants"]
    assert [v["name"] for v in variants] == names
    assert [v["mode"] for v in variants] == [*names[:4], "fused"]
    assert (few["config"]["max_objects"], paper["config"]["engine"]) == (1, "exact")
    assert fused["miou"] == fused["mbiou"] == 1.0
    assert max(network["pixel_accuracy"], paper["pixel_accuracy"]) < fused["pixel_accuracy"]
    for variant in variants:
        assert 0 < variant["latency_ms_p50"] <= variant["latency_ms_p95"]
        assert variant["frames_unmatched"] == variant["frames_failed"] == 0
        assert variant["mvc8"] is variant["strict_vc8"] is variant["mvc16"] is None
        weights = [Path(w["path"]).name for w in variant["weights"]]
        assert weights == ["mobile.safetensors", "street.safetensors"]
    assert result["provenance"]["packages"]["torch"]
    rows = (tmp_path / "report" / "frames.csv").read_text().splitlines()
    assert len(rows) == 1 + 5 * 8
    page = (tmp_path / "report" / "index.html").read_text()
    printed = capsys.readouterr().out
    for name in names:
        assert name in page and name in printed


def test_evaluate_fails_under_a_limit(
    folders: dict[str, Path],
    own_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After the figures are written, one line says by how much; also against an earlier run."""
    command = (
        "evaluate", "--images", folders["both"], "--labels", own_labels, "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "now.json",
    )  # fmt: skip
    assert run(*command, "--fail-under", "miou=1.25", "--fail-under", "mvc8=0") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "sam2vss: fail-under: fused: miou is 1.0000, 0.2500 under 1.25; "
        "fused: mvc8 has no value here"
    )
    earlier = (tmp_path / "now.json").rename(tmp_path / "earlier.json")
    report = tmp_path / "report"
    limits = ("--fail-under", "per_class_iou.Road=1", "--fail-under", "miou=1")
    assert run(*command, "--mode", "refine", "--baseline", earlier, "--report", report) == 0
    assert run(*command, *limits) == 0
    assert "earlier.json" in (report / "index.html").read_text()
    assert run(*command, "--baseline", tmp_path / "report" / "frames.csv") == 2
    assert "frames.csv is no JSON" in capsys.readouterr().err
    earlier.write_text('{"miou": 0.5}')
    assert run(*command, "--baseline", earlier) == 2
    assert "is not the --json of one evaluation: boundary_px is missing" in capsys.readouterr().err


def test_evaluate_a_video(video: Path, tmp_path: Path) -> None:
    """Labels are joined by the number of the frame; the video's own rate is kept."""
    out = tmp_path / "out"
    assert run("run", video, "--out", out, "--device", "cpu") == 0
    (out / "labels" / "000004.png").unlink()
    (out / "labels" / "000005.png").rename(out / "labels" / "drive_5.png")
    cv2.imwrite(str(out / "labels" / "000099.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    code = run(
        "evaluate", "--video", video, "--labels", out / "labels", "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "figures.json").read_text())
    assert result["miou"] == 1.0
    assert (result["frames"], result["frames_scored"]) == (6, 5)
    assert (result["frames_unmatched"], result["labels_unmatched"]) == (1, 1)


def test_evaluate_a_bag(folders: dict[str, Path], own_labels: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for i in (0, 1, 3):
        (labels / f"a_{i}.png").write_bytes((own_labels / f"a_{i}.png").read_bytes())
    bag = tmp_path / "bag"
    make = ("bag", "make", "--images", folders["a"], "--labels", labels, "--classes", "camvid")
    assert cli_streams.run(*make, "--rate", 30, "--out", bag) == 0
    code = run(
        "evaluate", "--bag", bag, "--image-topic", "/camera/image_raw", "--label-topic",
        "/camera/labels", "--classes", "camvid", "--device", "cpu", "--json", tmp_path / "f.json",
        "--carry", "off",  # as in the folder, of which nobody has said the rate
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "f.json").read_text())
    assert result["miou"] == 1.0
    assert (result["frames"], result["frames_scored"], result["frames_unmatched"]) == (4, 3, 1)


@pytest.mark.parametrize(("late", "stamped"), [(True, True), (False, False)])
def test_evaluate_a_bag_of_a_camera_with_odd_stamps(
    late: bool, stamped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every second image is 3 ms older than the one before, or none has a stamp."""
    bag = tmp_path / "bag"
    with new_bag(bag, "mcap") as writer:
        for i in range(10):
            milliseconds = 1000 + 33 * i - (36 if late and i % 2 else 0)
            head = header(milliseconds * 1_000_000 if stamped else 0, "camera")
            recorded = (1000 + 33 * i) * 1_000_000
            image = np.roll(cli_streams.street(0, 200), 2 * i, 1)
            labels = np.full(image.shape[:2], 3, np.uint8)
            writer.write("/image", image_message(image, "rgb8", head), recorded)
            writer.write("/labels", label_message(labels, head), recorded + 1)
    code = run(
        "evaluate", "--bag", bag, "--image-topic", "/image", "--label-topic", "/labels",
        "--classes", "camvid", "--device", "cpu", "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "f.json").read_text())
    counts = [result[f"frames{kind}"] for kind in ("", "_scored", "_failed", "_unmatched")]
    assert counts == ([10, 5, 5, 0] if late else [10, 10, 0, 0])
    assert result["labels_unmatched"] == 0
    assert caplog.text.count("out of order") == late
    assert caplog.text.count("does not stamp its images") == (not stamped)

    assert run("bag", "label", bag, "--image-topic", "/image", "--out", tmp_path / "out") == 0
    answered = Bag(tmp_path / "out").topics["/vss/label_image"].count
    assert answered == (5 if late else 10)


def test_evaluate_goes_on_after_a_broken_image(
    folders: dict[str, Path], own_labels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for file in list_images(folders["a"]):
        (images / file.name).write_bytes(file.read_bytes())
    cut = images / "a_1.png"
    cut.write_bytes(cut.read_bytes()[:60])
    code = run(
        "evaluate", "--images", images, "--labels", own_labels, "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "f.json").read_text())
    assert (result["frames"], result["frames_scored"], result["frames_failed"]) == (4, 3, 1)
    assert result["labels_unmatched"] == 4, "those of the other stream"
    assert re.search(r"a: a_1: .*a_1\.png cannot be read", caplog.text)


def test_evaluate_without_a_report_needs_no_library_of_it(
    folders: dict[str, Path], own_labels: Path
) -> None:
    arguments = ["evaluate", "--images", folders["both"], "--labels", own_labels]
    arguments += ["--classes", "camvid", "--device", "cpu", "--mode", "network", *IN_ANY_SCENE]
    script = [sys.executable, "-c", WITHOUT_LIBRARIES, "jinja2,matplotlib"]
    done = subprocess.run([*script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mIoU %" in done.stdout


def test_evaluate_compares_models_by_their_names_and_files(
    folders: dict[str, Path], own_labels: Path, tmp_path: Path
) -> None:
    code = run(
        "evaluate", "--images", folders["both"], "--labels", own_labels, "--classes", "camvid",
        "--device", "cpu", "--json", tmp_path / "figures.json", "--mode", "network",
        "--compare", f"mobile,{SMALL_SAM2}",
    )  # fmt: skip
    assert code == 0
    variants = json.loads((tmp_path / "figures.json").read_text())["variants"]
    assert [v["model"] for v in variants] == ["mobile", SMALL_SAM2]
    weights = [Path(w["path"]).name for w in variants[1]["weights"]]
    assert weights == ["small_sam2.yaml", "small_sam2.safetensors", "street.safetensors"]
