"""`sam2vss export onnx`: files that answer as the live networks do, and say what they take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from cli_streams import WITHOUT_LIBRARIES, run
from sam2vss_ros import __version__
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.affinity.outline import contrast
from sam2vss_ros.affinity.pointing import pointers_of
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.export.onnx_files import (
    NAMES,
    check_export,
    largest_difference,
    onnx_bytes,
)
from sam2vss_ros.export.stages import POINTS, Stage, load_stages
from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.catalog import load_catalog, parse_catalog
from sam2vss_ros.semantics.model import new_semantics, save_semantics
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt

HEIGHT, WIDTH, LONGER = 217, 333, 128
"""Of the camera, no multiples of anything; and the longer side of the input."""

INPUT = (96, 128)

Arrays = dict[str, npt.NDArray[Any]]


class Files:
    """An export, as its users run it."""

    def __init__(self, folder: Path, printed: str) -> None:
        import onnxruntime

        self.folder, self.printed = folder, printed
        self.sessions = {
            name.removesuffix(".onnx"): onnxruntime.InferenceSession(str(folder / name))
            for name in NAMES
        }

    def run(self, stage: str, known: Arrays) -> Arrays:
        """What a stage gives, by name, of what it takes among `known`."""
        session = self.sessions[stage]
        names = [output.name for output in session.get_outputs()]
        inputs = {taken.name: known[taken.name] for taken in session.get_inputs()}
        return dict(zip(names, session.run(names, inputs), strict=True))

    def about(self, stage: str) -> dict[str, str]:
        about: dict[str, str] = self.sessions[stage].get_modelmeta().custom_metadata_map
        return about


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("export") / "onnx"
    command = [sys.executable, "-m", "sam2vss_ros.cli", "export", "onnx", "--out", str(folder)]
    options = ["--size", f"{WIDTH}x{HEIGHT}", "--image-size", str(LONGER)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Files(folder, done.stdout)


@pytest.fixture(scope="module")
def live() -> Perception:
    """The networks of the pipeline, in float32 also where the processor has bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sam2vss_ros.affinity.model.native_bfloat16", lambda device: False)
        return Perception.load(PipelineConfig(device="cpu", image_size=LONGER))


@pytest.fixture(scope="module", params=[3, 4])
def image(request: pytest.FixtureRequest) -> npt.NDArray[np.uint8]:
    return make_clip(request.param, 1, (HEIGHT, WIDTH), kind="street").frames[0]


def as_told(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The image as the metadata of a file want it."""
    small = cv2.resize(image, INPUT[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32)


def close(theirs: npt.NDArray[np.float32], ours: Tensor) -> None:
    np.testing.assert_allclose(theirs, ours.float().numpy(), rtol=1e-3, atol=1e-3)


def test_the_files_see_what_the_pipeline_sees(
    files: Files, live: Perception, image: npt.NDArray[np.uint8]
) -> None:
    with live.arithmetic():
        (seen,) = live.encode_images([image])
        assert isinstance(seen, TrunkFeatures)
        dense, likeness = live.run_head(seen.pyramid), live.likeness(seen.pyramid[-1])
        middles = live.find_middles(dense.hidden)[None]
        keys = seen.key_net(seen.pyramid), seen.key_net.fine_keys(seen.pyramid)
    trunk = files.run("trunk", {"image": as_told(image)})
    for name, ours in zip(trunk, (*seen.pyramid, *keys), strict=True):
        close(trunk[name], ours)
    head = files.run("head", {name: trunk[name] for name in ("fine", "coarse")})
    for name, ours in zip(head, (*dense, middles, likeness[None]), strict=True):
        close(head[name], ours)
    equal = head["logits"].argmax(1) == dense.logits.argmax(1).numpy()
    assert equal.mean() >= 0.995
    assert len(np.unique(head["logits"].argmax(1))) > 3, "of a street"


@pytest.mark.parametrize("kind", ["points", "box"])
def test_a_prompt_means_the_same_masks(
    kind: str, files: Files, live: Perception, image: npt.NDArray[np.uint8]
) -> None:
    points, labels = np.array([[160.0, 150.0], [20.0, 10.0]], np.float32), np.array([1, 0])
    corners = (200.0, 90.0, 300.0, 210.0)
    known: Arrays = {
        "points": np.zeros((1, POINTS, 2), np.float32),
        "labels": np.full((1, POINTS), -1, np.int32),
        "box": np.zeros((1, 4), np.float32),
    }
    if kind == "points":
        prompt = Prompt(points=points, point_labels=labels)
        known["points"][0, :2], known["labels"][0, :2] = points / (WIDTH, HEIGHT), labels
    else:
        prompt = Prompt(box=corners)
        known["box"][0] = np.array(corners) / (WIDTH, HEIGHT, WIDTH, HEIGHT)
    picture = as_told(image)
    trunk = files.run("trunk", {"image": picture})
    answer = files.run("outline", {**trunk, "image": picture, **known})

    assert isinstance(live.model, AffinityModel)
    with live.arithmetic():
        (seen,) = live.encode_images([image])
        assert isinstance(seen, TrunkFeatures)
        pointers = pointers_of(prompt, (HEIGHT, WIDTH))
        masks = live.model.outline(seen.pyramid, seen.colours, pointers)
        differs = contrast(seen.pyramid, masks[0].sigmoid())
    close(answer["masks"], masks)
    close(answer["contrast"], differs)
    assert 0 < (answer["masks"] > 0).mean() < 1


def test_each_file_says_what_it_is(files: Files) -> None:
    import onnx

    for stage, session in files.sessions.items():
        about = files.about(stage)
        assert about["stage"] == stage and about["model"] == "mobile"
        assert about["camera_size"] == f"{WIDTH}x{HEIGHT}" and about["input_size"] == "128x96"
        assert "non-commercial" in about["licence"]
        for tensor in [*session.get_inputs(), *session.get_outputs()]:
            assert about[tensor.name], "of every tensor"
            assert all(isinstance(side, int) for side in tensor.shape), "sizes are fixed"
        written = onnx.load(str(files.folder / f"{stage}.onnx"))
        assert (written.producer_name, written.producer_version) == ("sam2vss_ros", __version__)
        assert [o.version for o in written.opset_import] == [18]
    (image,) = files.sessions["trunk"].get_inputs()
    assert image.shape == [1, 3, *INPUT] and image.type == "tensor(float)"
    assert "RGB" in files.about("trunk")["image"] and "0 to 255" in files.about("trunk")["image"]
    classes = parse_catalog(json.loads(files.about("head")["classes"]), "the file")
    assert classes == load_catalog("camvid")


def test_no_file_tells_of_the_machine_that_made_it(files: Files, root: Path) -> None:
    for name in NAMES:
        content = (files.folder / name).read_bytes()
        assert str(root).encode() not in content and b".py" not in content


def test_the_program_of_the_text_labels_an_image(
    files: Files,
    image: npt.NDArray[np.uint8],
    live: Perception,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (root / "docs/howto/onnx.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    place = files.folder.parent
    cv2.imwrite(str(place / "street.png"), image[..., ::-1])
    monkeypatch.chdir(place)
    known: dict[str, Any] = {}
    exec(program.replace("street.jpg", "street.png"), known)
    with live.arithmetic():
        wanted = live.run_head(live.trunk_maps(Frame(image, 1))).logits[0].argmax(0).numpy()
    assert (known["ids"] == live.catalog.ids[wanted]).mean() >= 0.995


def test_the_largest_differences_are_printed(files: Files) -> None:
    for name in NAMES:
        (line,) = [line for line in files.printed.splitlines() if line.startswith(name + " ")]
        assert 0 <= float(line.split()[-1]) < 1e-2
    assert f"images of {INPUT[1]}x{INPUT[0]}" in files.printed
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(NAMES)


def test_classes_of_ones_own(tmp_path: Path) -> None:
    names = ("Grass", "Path", "Hedge")
    data = {
        "name": "yard",
        "classes": [{"id": 7 * i, "name": n, "color": [i, i, i]} for i, n in enumerate(names)],
    }
    catalog = parse_catalog(data, "the test")
    torch.manual_seed(0)
    path = tmp_path / "yard.safetensors"
    save_semantics(new_semantics(catalog), path, {})
    (head,) = [s for s in load_stages("mobile", (64, 64), str(path), 64) if s.name == "head"]
    content = onnx_bytes(head)
    difference = largest_difference(head, content)
    assert difference is not None and difference < 1e-2
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    assert session.get_outputs()[0].shape == [1, 3, 16, 16]
    about = session.get_modelmeta().custom_metadata_map
    assert parse_catalog(json.loads(about["classes"]), "the file") == catalog
    assert "CamVid" not in about["licence"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--size 640", "size: '640' is not a width and a height in pixels"),
        ("--size 0x480", "size: '0x480' is not a width and a height in pixels"),
        ("--size 4000x100", "size: 4000x100 is no camera's: .* at most 8 times the other"),
        ("--size 4x4", "size: 4x4 is no camera's: sides of 8 pixels at least"),
        ("--image-size 100", "image_size: 100 is not a multiple of 32"),
        ("--model sam2.1_hiera_tiny", "model: sam2.1_hiera_tiny cannot be exported, only mobile"),
        ("--model edgetam", "model: edgetam cannot be exported, only mobile"),
        ("--model huge", "model: 'huge' is not one of mobile"),
        ("--semantics none.safetensors", "semantics: none.safetensors does not exist"),
    ],
)
def test_bad_input_is_told_in_a_line(
    options: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", "onnx", "--out", str(tmp_path / "out"), *options.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"sam2vss: error: {told}", line), line
    assert not (tmp_path / "out").exists()


def test_only_files_of_an_export_are_replaced(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_export(files.folder, overwrite=False)
    theirs = tmp_path / "head.onnx"
    theirs.write_bytes(b"a network of somebody else")
    assert run("export", "onnx", "--out", str(tmp_path)) == 2
    assert "not from an earlier run" in capsys.readouterr().err
    assert theirs.read_bytes() == b"a network of somebody else"
    check_export(tmp_path, overwrite=True)


@pytest.mark.parametrize("library", ["onnx", "onnxscript"])
def test_a_missing_library_is_told(library: str, tmp_path: Path) -> None:
    script = [sys.executable, "-c", WITHOUT_LIBRARIES, library]
    command = ["export", "onnx", "--out", str(tmp_path / "out")]
    done = subprocess.run([*script, *command], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(f'sam2vss: error: .*{library}.*pip install "sam2vss_ros\\[export]"', line)
    assert not (tmp_path / "out").exists()


class Noise(nn.Module):
    """Never the same answer twice."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x + torch.rand_like(x),)


class Choice(nn.Module):
    """A program that depends on what it is given, which no graph can say."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x if x.sum() > 0 else -x,)


def odd_stage(module: nn.Module) -> Stage:
    return Stage("odd", module, {"x": "numbers"}, {"y": "numbers"}, ((torch.ones(1, 64),),), {})


def test_a_file_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = odd_stage(Noise())
    content = onnx_bytes(stage)
    with pytest.raises(InputError, match=r"odd\.onnx: y by onnxruntime differs from PyTorch's by"):
        largest_difference(stage, content)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert largest_difference(stage, content) is None, "without it nothing is checked"


def test_what_cannot_be_exported_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"odd: torch .* cannot export it; .*data-dependent"):
        onnx_bytes(odd_stage(Choice()))
    assert capfd.readouterr() == ("", "")
