"""The command `sam2vss` with the real pipeline and the embedded model, right and wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2vss_ros.cli import main
from sam2vss_ros.config import PipelineConfig, options_of
from sam2vss_ros.io.readers import list_images, read_labels
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2.cards import CARDS
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.types import Frame, SemanticFrame

WIDTH, HEIGHT = 160, 120
UNLABELLED = 255


def street(index: int, hue: int) -> np.ndarray:
    """(H, W, 3) RGB: sky above, road below, and a box that drives to the right."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:50], image[50:] = (150, 190, 230), (90, 90, 95)
    image[40:80, 10 + 6 * index : 60 + 6 * index] = (hue, 40, 40)
    return image


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images of two streams, `a_0.png`... and `b_0.png`..., each also in a folder of its own."""
    root = tmp_path_factory.mktemp("streams")
    for name, hue in (("a", 200), ("b", 120)):
        for folder in (root / name, root / "both"):
            folder.mkdir(exist_ok=True)
            for i in range(4):
                Image.fromarray(street(i, hue)).save(folder / f"{name}_{i}.png")
    return {name: root / name for name in ("a", "b", "both")}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "street.mp4"
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 20.0, (WIDTH, HEIGHT))
    for i in range(6):
        writer.write(street(i, 200)[:, :, ::-1].copy())
    writer.release()
    return path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_help_answers_without_loading_anything() -> None:
    script = (
        "import sys\n"
        "from sam2vss_ros.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'cv2', 'numpy', 'sam2'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "evaluate", "config", "models", "train", "bench"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["run", "evaluate", "config", "models"])
def test_every_command_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(command, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and f"sam2vss {command}" in text
    if command in ("run", "evaluate"):
        for option in options_of(PipelineConfig):
            assert f"--{option.replace('_', '-')}" in text


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

    def interrupted(pipeline: VssPipeline, frame: Frame) -> SemanticFrame:
        if frame.stamp_ns == 100_000_000:
            raise KeyboardInterrupt
        return process(pipeline, frame)

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
    assert result["fps"] > 0 and result["model"] == "nano"
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
    assert len({v["pixel_accuracy"] for v in (network, paper, fused)}) == 3
    for variant in variants:
        assert 0 < variant["latency_ms_p50"] <= variant["latency_ms_p95"]
        assert variant["frames_unmatched"] == variant["frames_failed"] == 0
        assert variant["mvc8"] is variant["strict_vc8"] is variant["mvc16"] is None
        assert any(w["path"].endswith("nano.safetensors") for w in variant["weights"])
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
    assert run(*make, "--rate", 30, "--out", bag) == 0
    code = run(
        "evaluate", "--bag", bag, "--image-topic", "/camera/image_raw", "--label-topic",
        "/camera/labels", "--classes", "camvid", "--device", "cpu", "--json", tmp_path / "f.json",
    )  # fmt: skip
    assert code == 0
    result = json.loads((tmp_path / "f.json").read_text())
    assert result["miou"] == 1.0
    assert (result["frames"], result["frames_scored"], result["frames_unmatched"]) == (4, 3, 1)


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


def test_models_lists_what_is_at_hand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sam2.1_hiera_small.pt").touch()
    monkeypatch.setenv("SAM2VSS_CHECKPOINTS", str(tmp_path))
    assert run("models") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "nano.safetensors" in lines["nano"]
    assert str(tmp_path / "sam2.1_hiera_small.pt") in lines["sam2.1_hiera_small"]
    assert {"sam2.1_hiera_tiny", "sam2.1_hiera_base_plus", "sam2.1_hiera_large"} < lines.keys()
    at = lines["model"].index("licence")
    for name, card in CARDS.items():
        assert lines[name][at:].startswith(f"{card.licence}  ")
        assert f"  {card.source}  " in lines[name]


def test_models_fetch_of_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--fetch", "nano") == 0
    assert "nano.safetensors" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> dict[str, Path]:
    """Everything a user can get wrong, as files."""
    root = tmp_path_factory.mktemp("bad")
    paths = {name: root / name for name in ("empty", "small", "other_names", "void", "colored")}
    for path in paths.values():
        path.mkdir()
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.imwrite(str(paths["small"] / "a_0.png"), black[:60])
    cv2.imwrite(str(paths["other_names"] / "frame0.png"), black)
    cv2.imwrite(str(paths["void"] / "a_0.png"), black + 200)
    Image.fromarray(street(0, 200)).save(paths["colored"] / "a_0.png")
    paths["text"] = root / "text.mp4"
    paths["text"].write_text("no video")
    paths["missing"] = root / "missing"
    paths["indoor"] = root / "indoor.yaml"
    paths["indoor"].write_text(
        "name: indoor\nclasses: [{id: 0, name: chair, color: [1, 2, 3]}]\n", encoding="utf-8"
    )
    return paths | {"images": folders["a"]}


RUN = "run {images} --out {missing} "
EVALUATE = "evaluate --images {images} --classes camvid "


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("segment", "invalid choice: 'segment'"),
        ("run {images}", "the following arguments are required: --out"),
        ("run {missing} --out {missing}", "missing does not exist"),
        ("run {empty} --out {missing}", "holds no images"),
        ("run {text} --out {missing}", "cannot be opened as a video"),
        ("run {images} --out {text}", "is a file"),
        (RUN + "--rate -5", "rate: -5.0 is not a positive number"),
        (RUN + "--model sam3", "model: 'sam3' is not one of nano, "),
        (RUN + "--mode best", "mode: 'best' is not one of refine, classify, fused"),
        (RUN + "--network city.onnx", "network: city.onnx does not exist"),
        (RUN + "--network topic", "network: topic is for the live node"),
        (RUN + "--network street --class-map mine", "shipped by name: cityscapes_to_camvid"),
        (RUN + "--max-objects -1", "max_objects: -1 is outside 0 to 256"),
        (RUN + "--max-objects many", "argument --max-objects: invalid int value: 'many'"),
        (RUN + "--image-size 500", "image_size: 500 is not a multiple of 32"),
        (RUN + "--device cuda:99", "device: 'cuda:99' is not on this machine"),
        (RUN + "--checkpoint {missing}", "missing is not a file"),
        (RUN + "--checkpoint {text}", "truncated or no checkpoint"),
        (RUN + "--classes {missing}", "does not exist"),
        (RUN + "--frobnicate", "unrecognized arguments: --frobnicate"),
        (EVALUATE + "--labels {missing}", "missing is not a folder"),
        (EVALUATE + "--labels {empty}", "holds no images"),
        (EVALUATE + "--labels {small}", "a_0.png is 160x60, its image"),
        (EVALUATE + "--labels {other_names}", "has labels in"),
        (EVALUATE + "--labels {void}", "hold none of the classes of camvid"),
        (EVALUATE + "--labels {colored}", "mode RGB"),
        (EVALUATE + "--labels {void} --mode best", "mode: 'best' is not one of"),
        (EVALUATE + "--labels {void} --rate 0", "rate: 0.0 is not a positive number"),
        (EVALUATE + "--labels {void} --json {missing}/x.json", "does not exist"),
        (
            "evaluate --images {images} --labels {void} --classes mars",
            "classes: class file .*shipped by name: camvid",
        ),
        (
            "evaluate --images {images} --labels {void} --classes {indoor}",
            "indoor and camvid have no class name in common",
        ),
        (
            "evaluate --labels {void} --classes camvid",
            "one of the arguments --images/--video --bag",
        ),
        (
            "evaluate --video {text} --labels {void} --classes camvid",
            "cannot be opened as a video",
        ),
        (EVALUATE + "--label-topic /labels", "topics are of a bag"),
        (EVALUATE + "--labels {void} --image-topic /image", "topics are of a bag"),
        ("evaluate --bag {missing} --labels {void} --classes camvid", "missing.* does not exist"),
        (
            "evaluate --bag {missing} --labels {void} --classes camvid --rate 5",
            "rate: the images of a bag have stamps",
        ),
        (EVALUATE + "--labels {void} --report {text}", "report: .*text.mp4 cannot be written"),
        (EVALUATE + "--labels {void} --compare best", "compare: 'best' is no mode .*paper-refine"),
        (EVALUATE + "--labels {void} --compare refine,fused refine", "compare: refine is there tw"),
        (EVALUATE + "--labels {void} --compare mode=best", "compare: mode=best: mode: 'best' is"),
        (EVALUATE + "--labels {void} --compare max_objects=many", "max_objects: 'many' is no int"),
        (EVALUATE + "--labels {void} --compare speed=1", "compare: 'speed=1' is not OPTION=VALUE"),
        (EVALUATE + "--labels {void} --baseline {missing}", "neither a variant .fused. nor a file"),
        (EVALUATE + "--labels {void} --fail-under iou=1", "fail-under: 'iou=1' is not .*miou, "),
        (EVALUATE + "--labels {void} --fail-under miou", "fail-under: 'miou' is not KEY=NUMBER"),
        (EVALUATE + "--labels {void} --fail-under miou=high", "fail-under: miou: 'high' is no num"),
        ("models --fetch sam9", "model: 'sam9' is not one of nano, "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    command: str, message: str, bad: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument.format(**bad) for argument in command.split()]
    try:
        code = run(*arguments)
    except SystemExit as end:  # argparse's own errors
        assert isinstance(end.code, int)
        code = end.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert last.startswith("sam2vss: error: ")
    assert re.search(message, last), last
    assert not bad["missing"].exists() or not list(bad["missing"].glob("labels/*"))


WITHOUT_LIBRARIES = (
    "import sys\n"
    "for library in sys.argv[1].split(','): sys.modules[library] = None\n"
    "from sam2vss_ros.cli import main\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("jinja2", "evaluate --images {images} --labels {void} --classes camvid --report {out}"),
        (
            "matplotlib",
            "evaluate --images {images} --labels {void} --classes camvid --report {out}",
        ),
        ("matplotlib", "train network --data {images} --out {out}"),
        ("matplotlib", "train semantics --data {images} --out {out}"),
    ],
)
def test_a_missing_library_is_told_before_the_work(
    library: str, command: str, bad: dict[str, Path], tmp_path: Path
) -> None:
    arguments = command.format(**bad, out=tmp_path / "out").split()
    script = [sys.executable, "-c", WITHOUT_LIBRARIES, library]
    done = subprocess.run([*script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(f'sam2vss: error: .*{library}.*pip install "sam2vss_ros\\[report]"', line)
    assert not list(tmp_path.glob("out*"))


def test_evaluate_without_a_report_needs_no_library_of_it(
    folders: dict[str, Path], own_labels: Path
) -> None:
    arguments = ["evaluate", "--images", folders["both"], "--labels", own_labels]
    arguments += ["--classes", "camvid", "--device", "cpu", "--mode", "network"]
    script = [sys.executable, "-c", WITHOUT_LIBRARIES, "jinja2,matplotlib"]
    done = subprocess.run([*script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mIoU %" in done.stdout


def test_bugs_keep_their_traceback(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pipeline: VssPipeline, frame: Frame) -> SemanticFrame:
        raise ValueError("a bug")

    monkeypatch.setattr(VssPipeline, "process", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("run", video, "--out", tmp_path)
