"""Training of the semantics: what it begins with, and runs."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.trunk import Bottleneck
from sam2vss_ros.cli import main
from sam2vss_ros.semantics.familiarity import World
from sam2vss_ros.semantics.model import load_semantics, read_semantics
from sam2vss_ros.semantics.segmenter import DenseHead
from sam2vss_ros.semantics.weights_file import load_weights
from sam2vss_ros.training import data, loop, semantics
from sam2vss_ros.training.data import LabelledStill
from stills import two_halves
from street_stills import CAMVID, CPU, street, worn_semantics


@pytest.fixture(scope="module")
def trunk() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu", image_size=64)


# -- the stages


def blocks_of(head: DenseHead) -> list[nn.Module]:
    """From the fourth of a MobileNetV2 on."""
    return [block for stage in head.stages for block in stage.children()]


def published(blocks: list[nn.Module]) -> dict[str, Tensor]:
    """Weights of a MobileNetV2, as PyTorch names them, whose convolutions from its fourth block on
    are those of `blocks`."""
    weights: dict[str, Tensor] = {}
    for number, block in enumerate(blocks, 4):
        place, convolutions = f"features.{number}", [block]
        if isinstance(block, Bottleneck):
            assert block.expand is not None
            place, convolutions = f"{place}.conv", [block.expand, block.filter, block.project]
        for j, convolution in enumerate(convolutions):
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            channels = convolution.out_channels
            mean, gain = torch.randn(channels), torch.rand(channels) + 0.5
            weights[f"{place}.{3 * j}.weight"] = convolution.weight / gain[:, None, None, None]
            weights[f"{place}.{3 * j + 1}.weight"] = gain
            weights[f"{place}.{3 * j + 1}.bias"] = convolution.bias + mean * gain
            weights[f"{place}.{3 * j + 1}.running_mean"] = mean
            weights[f"{place}.{3 * j + 1}.running_var"] = torch.ones(channels) - 1e-5
    return {key: value.detach() for key, value in weights.items()}


def test_a_published_mobilenet_begins_the_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = blocks_of(DenseHead(11))
    last = World().eyes[-1]
    torch.save(published([*theirs, last]), tmp_path / "mobilenet.pt")
    begun = semantics._new_semantics(CAMVID, tmp_path / "mobilenet.pt")
    expected = nn.ModuleList([*theirs, last]).state_dict()
    for ours, first in ((blocks_of(begun.head), 0), (list(begun.world.eyes), 10)):
        for key, value in (
            nn.ModuleDict({f"{i}": block for i, block in enumerate(ours, first)})
            .state_dict()
            .items()
        ):
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how", ["no file of torch", "empty", "a list", "no tensors", "a part", "other shapes"]
)
def test_what_is_no_mobilenet_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    blocks = nn.ModuleList(blocks_of(DenseHead(11)))
    before = deepcopy(blocks.state_dict())
    weights = published(list(blocks))
    if how in ("no file of torch", "empty"):
        path.write_bytes(b"no weights" if how == "no file of torch" else b"")
    elif how == "a list":
        torch.save([1, 2], path)
    elif how == "no tensors":
        torch.save(dict.fromkeys(weights, 1.0), path)
    elif how == "a part":
        torch.save({k: v for k, v in weights.items() if "features.16" not in k}, path)
    else:
        torch.save(weights | {"features.17.conv.6.weight": torch.zeros(9, 960, 1, 1)}, path)
    with pytest.raises(ValueError, match="other.pt holds no MobileNetV2") as caught:
        semantics.load_published(enumerate(blocks, 4), path)
    assert "\n" not in str(caught.value)
    for key, value in before.items():
        assert torch.equal(blocks.state_dict()[key], value), key


# -- runs


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Material made here and not by another process, which takes seconds to start."""
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 1)


def train(
    trunk: AffinityModel,
    out: Path,
    steps: int,
    resume: bool = False,
    pretrained: Path | None = None,
) -> dict[str, Tensor]:
    model = semantics.train_semantics(
        trunk,
        [street(), two_halves()],
        CAMVID,
        out,
        steps=steps,
        resume=resume,
        pretrained=pretrained,
        views=2,
        size=64,
    )
    assert model.catalog == CAMVID and model.image_size == 512
    assert not model.head.training and not model.classifier.training
    return model.head.state_dict() | model.classifier.state_dict()


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_run_resumes_to_the_same_weights(
    trunk: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(trunk, tmp_path / "whole", 3)
    loss, calls = semantics._loss, iter(range(3))

    def stopping(*args: Any) -> tuple[Tensor, dict[str, float]]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return loss(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(semantics, "_loss", stopping)
        train(trunk, tmp_path / "broken", 3)
    with pytest.raises(FileExistsError, match="--resume"):
        train(trunk, tmp_path / "broken", 3)
    resumed = train(trunk, tmp_path / "broken", 3, resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    log = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]
    # All of it was trained.
    begun = read_semantics("street").head.stages
    for i, stage in enumerate(begun):
        for key, value in stage.state_dict().items():
            assert not torch.equal(value, whole[f"stages.{i}.{key}"]), key


@pytest.mark.usefixtures("in_process")
def test_a_run_goes_on_with_another_number_of_steps(trunk: AffinityModel, tmp_path: Path) -> None:
    train(trunk, tmp_path, 1)
    longer = train(trunk, tmp_path, 2, resume=True)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2]
    again = train(trunk, tmp_path, 1, resume=True)
    for key, value in longer.items():
        assert torch.equal(value, again[key]), key


@pytest.mark.usefixtures("in_process")
def test_it_learns_a_street(
    trunk: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of the first steps must fall clearly."""
    monkeypatch.setattr(loop, "WARMUP_STEPS", 5)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 100)
    train(trunk, tmp_path, 40)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for loss, limit in (("entropy", 0.7), ("overlap", 0.92), ("masks", 0.8), ("middles", 0.8)):
        first, last = (np.mean([r[loss] for r in part]) for part in (log[:5], log[-5:]))
        assert last < limit * first, loss


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("rate", "share"), [(None, semantics.GENTLE), (0.6, 0.6)])
def test_trained_semantics_go_on_gently(
    rate: float | None,
    share: float,
    trunk: AffinityModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it learns, by less than from scratch, and means and deviations stay."""
    monkeypatch.setattr(loop, "WARMUP_STEPS", 1)
    start, begun = worn_semantics(), worn_semantics().head.state_dict()
    model = semantics.train_semantics(
        trunk, [street()], CAMVID, tmp_path, steps=2, start=start, rate=rate, views=2, size=64
    )
    assert model.image_size == start.image_size and not model.head.training
    moved = {
        key: float((value - begun[key]).abs().max())
        for key, value in model.head.state_dict().items()
        if value.is_floating_point()
    }
    for key, most in moved.items():
        if ".running_" in key:
            assert most < 1e-6, key
        else:
            assert 0 < most < share * 5e-3, key
    assert max(moved.values()) > share * 1e-3


def test_a_start_of_other_classes_is_refused(trunk: AffinityModel, tmp_path: Path) -> None:
    other = replace(CAMVID, classes=CAMVID.classes[:3])
    with pytest.raises(ValueError, match="start: its classes are not those of camvid"):
        semantics.train_semantics(
            trunk, [street()], other, tmp_path / "run", steps=1, start=worn_semantics()
        )
    assert not list(tmp_path.iterdir())


def folder_of(stills: list[LabelledStill], root: Path) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for still in stills:
        ids = np.where(still.labels == 255, 11, still.labels).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{still.name}.png"), still.image[..., ::-1])
        cv2.imwrite(str(root / "labels" / f"{still.name}.png"), ids)
    return root


@pytest.mark.usefixtures("in_process")
def test_the_command_trains_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = dict(semantics.train_semantics.__kwdefaults__ or {}) | {"views": 2, "size": 64}
    monkeypatch.setattr(semantics.train_semantics, "__kwdefaults__", small)
    folder = folder_of([street(f"a_{i}") for i in range(4)], tmp_path / "data")
    out = tmp_path / "mine.safetensors"
    theirs = [*blocks_of(DenseHead(11)), World().eyes[-1]]
    torch.save(published(theirs), tmp_path / "mobilenet.pt")
    command = ["train", "semantics", "--data", str(folder), "--out", str(out), "--device", "cpu"]
    command += ["--steps", "2", "--holdout", "0.25"]
    others = ["--elsewhere", str(folder / "labels"), str(folder / "images")]
    assert main([*command, "--pretrained", str(tmp_path / "mobilenet.pt"), *others]) == 0
    printed = capsys.readouterr().out
    assert "trained on 3 images" in printed and "on 1 held-out images: mIoU" in printed
    assert "Pole" in printed
    card = load_weights(out)[1]["card"]
    assert card["images"] == 3 and card["steps"] == 2
    assert card["held_out"]["per_class_iou"]["Car"] is None
    model = load_semantics(str(out), CPU)
    assert model.catalog == CAMVID and model.image_size == 512
    shown = read_semantics("street").world.elsewhere
    assert not torch.allclose(model.world.elsewhere, shown, atol=0.1)
    assert (tmp_path / "mine.run" / "curves.png").is_file()
    assert main([*command, "--resume", "--elsewhere", "/nowhere.mp4"]) == 2
    assert "/nowhere.mp4 does not exist" in capsys.readouterr().err
    assert main(command) == 2
    assert "give --resume to go on or another --out" in capsys.readouterr().err
    assert main([*command, "--resume", "--holdout", "0", "--start", str(out), "--drawn", "1"]) == 0
    assert (
        "held-out" not in capsys.readouterr().out and "held_out" not in load_weights(out)[1]["card"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "images is not a folder"),
        (("--holdout", "1"), "holdout: 1.0 is not a share from 0 to below 1"),
        (("--drawn", "-1"), "drawn: -1 is not a number of images"),
        (("--steps", "0"), "steps: 0 is not a positive number"),
        (("--rate", "0"), "rate: 0.0 is not a share above 0, to 1"),
        (("--classes", "nowhere"), "shipped by name"),
        (("--out", "/nowhere/net.safetensors"), "out: the folder of /nowhere/net"),
    ],
)
def test_bad_options_are_named(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    command = ("train", "semantics", "--data", str(tmp_path), "--out", str(out), *options)
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not out.exists()


def test_nothing_to_train_on(trunk: AffinityModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stills"):
        semantics.train_semantics(trunk, [], CAMVID, tmp_path / "run", steps=1)
    assert not list(tmp_path.iterdir())
