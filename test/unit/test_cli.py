"""The command `sam2vss`: help, models, bad input, missing libraries, bugs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cli_streams import HEIGHT, WIDTH, WITHOUT_LIBRARIES, run, street, write_folders, write_video
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.options import options_of
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2.cards import CARDS
from sam2vss_ros.types import Frame, SemanticFrame
from small_sam2 import SMALL_SAM2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_folders(tmp_path_factory.mktemp("streams"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4")


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
    for command in ("run", "evaluate", "config", "models", "train", "export", "bench"):
        assert command in done.stdout


@pytest.mark.parametrize("command", ["run", "evaluate", "config", "models", "export"])
def test_every_command_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(command, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and f"sam2vss {command}" in text
    if command in ("run", "evaluate"):
        for option in options_of(PipelineConfig):
            assert f"--{option.replace('_', '-')}" in text


def test_models_lists_what_is_at_hand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sam2.1_hiera_small.pt").touch()
    monkeypatch.setenv("SAM2VSS_CHECKPOINTS", str(tmp_path))
    assert run("models") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "mobile.safetensors" in lines["mobile"]
    assert str(tmp_path / "sam2.1_hiera_small.pt") in lines["sam2.1_hiera_small"]
    assert {"sam2.1_hiera_tiny", "sam2.1_hiera_base_plus", "sam2.1_hiera_large"} < lines.keys()
    at = lines["model"].index("licence")
    for name, card in CARDS.items():
        assert lines[name][at:].startswith(f"{card.licence}  ")
        assert f"  {card.source}  " in lines[name]


def test_models_tries_a_file_that_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("models", SMALL_SAM2, "mobile") == 0
    _, mine, mobile = capsys.readouterr().out.splitlines()
    assert mine.split()[:4] == [SMALL_SAM2, "1.2", "M", "256"]
    assert mine.endswith("small_sam2.safetensors") and mobile.endswith("mobile.safetensors")
    spoilt = tmp_path / "mine.yaml"
    shutil.copy(SMALL_SAM2, spoilt)
    assert run("models", spoilt) == 0
    assert capsys.readouterr().out.endswith("  missing\n")
    spoilt.with_suffix(".pt").write_text("not weights")
    assert run("models", spoilt) == 2
    assert "mine.pt cannot be read" in capsys.readouterr().err
    assert run("models", "gone.yaml") == 2
    assert "model: gone.yaml is not a file" in capsys.readouterr().err


def test_models_fetch_of_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--fetch", "mobile") == 0
    assert "mobile.safetensors" in capsys.readouterr().out


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
        (RUN + "--model sam3", "model: 'sam3' is not one of mobile, sam2.1_hiera_tiny, "),
        (RUN + "--allow-torchscript maybe", "--allow-torchscript: invalid boolean value: 'maybe'"),
        (RUN + "--mode best", "mode: 'best' is not one of refine, classify, fused"),
        (RUN + "--network city.onnx", "network: city.onnx does not exist"),
        (RUN + "--network topic", "network: topic is for the live node"),
        (RUN + "--network street", "network: street does not exist; a network is head, topic, a"),
        (RUN + "--class-map mine", "class_map: the head has the classes of the semantics"),
        (RUN + "--max-objects -1", "max_objects: -1 is outside 0 to 256"),
        (RUN + "--max-objects many", "argument --max-objects: invalid int value: 'many'"),
        (RUN + "--image-size 500", "image_size: 500 is not a multiple of 32"),
        (RUN + "--device cuda:99", "device: 'cuda:99' is not on this machine"),
        (RUN + "--checkpoint {missing}", "missing is not a file"),
        (RUN + "--checkpoint {text}", "truncated or no checkpoint"),
        (RUN + "--classes {missing}", "does not exist"),
        (RUN + "--model gone.yaml", "model: gone.yaml is not a file"),
        (RUN + "--frobnicate", "unrecognized arguments: --frobnicate"),
        (EVALUATE + "--labels {missing}", "missing is not a folder"),
        (EVALUATE + "--labels {empty}", "holds no images"),
        (EVALUATE + "--labels {small}", "a_0.png is 160x60, its image"),
        (EVALUATE + "--labels {other_names}", "has labels in"),
        (EVALUATE + "--labels {void}", "hold none of the classes of camvid"),
        (EVALUATE + "--labels {colored}", "colours that no class of camvid has"),
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
        (
            EVALUATE + "--labels {void} --compare speed=1",
            "compare: no option speed: `sam2vss config",
        ),
        (
            EVALUATE + "--labels {void} --compare modle=mobile",
            "no option modle: do you mean model?",
        ),
        (EVALUATE + "--labels {void} --modle mobile", "--modle mobile; do you mean --model?"),
        (EVALUATE + "--labels {void} --baseline {missing}", "neither a variant .fused. nor a file"),
        (EVALUATE + "--labels {void} --fail-under iou=1", "fail-under: 'iou=1' is not .*miou, "),
        (EVALUATE + "--labels {void} --fail-under miou", "fail-under: 'miou' is not KEY=NUMBER"),
        (EVALUATE + "--labels {void} --fail-under miou=high", "fail-under: miou: 'high' is no num"),
        ("models --fetch sam9", "model: 'sam9' is not one of mobile, "),
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


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("jinja2", "evaluate --images {images} --labels {void} --classes camvid --report {out}"),
        (
            "matplotlib",
            "evaluate --images {images} --labels {void} --classes camvid --report {out}",
        ),
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
    *told, line = done.stderr.splitlines()
    assert all("ids (200) that camvid lacks" in doubt for doubt in told), "of the labels"
    assert re.match(f'sam2vss: error: .*{library}.*pip install "sam2vss_ros\\[report]"', line)
    assert not list(tmp_path.glob("out*"))


def test_bugs_keep_their_traceback(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pipeline: VssPipeline, frame: Frame, *_: object) -> SemanticFrame:
        raise ValueError("a bug")

    monkeypatch.setattr(VssPipeline, "process", broken)
    with pytest.raises(ValueError, match="a bug"):
        run("run", video, "--out", tmp_path)
