"""Runs of training that can be interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.cli import main
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.training import data, features, nano, semantics
from stills import CAMVID, two_halves

SCHEDULE = (
    nano.Phase(steps=1, size=64, frames=2, clips=2, objects=4, stills=1),
    nano.Phase(steps=1, size=96, frames=3, clips=1, objects=3, stills=1),
)


def interrupt_at(module: Any, step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before training step `step` of a module's next runs."""
    train_step = module._train_step

    def stopping(*args: Any) -> dict[str, float]:
        state = next(a for a in args if isinstance(a, module._State))
        if state.step == step:
            raise KeyboardInterrupt
        record: dict[str, float] = train_step(*args)
        return record

    patch.setattr(module, "_train_step", stopping)


def steps_logged(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Material made here and not by another process, which takes seconds to start."""
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    monkeypatch.setattr(nano, "STILL_SIZE", 64)


@pytest.mark.usefixtures("in_process")
def test_nano_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(name: str, resume: bool = False) -> dict[str, Tensor]:
        stills = [two_halves()]
        network = nano.train_nano(stills, CAMVID, tmp_path / name, schedule=SCHEDULE, resume=resume)
        weights: dict[str, Tensor] = network.state_dict()
        return weights

    whole = train("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(nano, 1, patch)
        train("broken")
    assert steps_logged(tmp_path / "broken") == [1]
    with pytest.raises(FileExistsError, match="--resume"):
        train("broken")
    resumed = train("broken", resume=True)
    assert steps_logged(tmp_path / "broken") == [1, 2]
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    fresh = build_nano().state_dict()
    assert any(not torch.equal(value, whole[key]) for key, value in fresh.items())


@pytest.fixture(scope="module")
def small_model() -> Sam2Model:
    """nano with random weights at 64 pixels."""
    torch.manual_seed(1)
    network = build_nano(64).eval().requires_grad_(False)
    return Sam2Model(model_card("nano"), network, torch.device("cpu"), torch.float32)


def test_semantics_resume_to_the_same_weights(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantics, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(semantics, "EXAMINE_EVERY", 1)
    stills = [two_halves(), two_halves(96)]

    def train(name: str, resume: bool = False) -> dict[str, Tensor]:
        model, found = semantics.train_semantics(
            small_model, stills, CAMVID, tmp_path / name, steps=2, held_out={1}, resume=resume
        )
        assert model.catalog == CAMVID and model.backbone == "nano" and model.image_size == 64
        assert not model.head.training and not model.classifier.training
        assert found is not None and 0 <= found.dense.miou() <= 1 and found.masks
        assert (tmp_path / name / "curves.png").stat().st_size > 1000
        return model.head.state_dict() | model.classifier.state_dict()

    whole = train("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(semantics, 1, patch)
        train("broken")
    with pytest.raises(FileExistsError, match="--resume"):
        train("broken")
    resumed = train("broken", resume=True)
    assert steps_logged(tmp_path / "broken") == [1, 2]
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_semantics_learn_two_colours(small_model: Sam2Model, tmp_path: Path) -> None:
    """Even on random features: the loss of the first steps must fall clearly."""
    semantics.train_semantics(small_model, [two_halves()], CAMVID, tmp_path, steps=25)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean([r["dense"] for r in log[-5:]]) < 0.7 * np.mean([r["dense"] for r in log[:5]])


def test_training_stops_where_held_out_stills_get_no_better(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantics, "EXAMINE_EVERY", 1)
    monkeypatch.setattr(semantics, "PATIENCE", 2)
    monkeypatch.setattr(semantics.Examination, "score", property(lambda self: 0.5))
    semantics.train_semantics(
        small_model, [two_halves(), two_halves(96)], CAMVID, tmp_path, steps=50, held_out={1}
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(log) == 4  # the first is the best, and two more may follow it in vain


def test_features_are_made_once_and_only_for_what_they_are_of(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = features.FeatureCache(small_model, [two_halves()], 11, tmp_path, seed=0)
    assert cache.views == features.MOST_VIEWS
    first = cache.view(0, 1)
    assert first.pyramid[0].dtype == torch.float16 and first.labels.shape == (64, 64)
    again = features.FeatureCache(small_model, [two_halves()], 11, tmp_path, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(again, "_make", lambda *_: pytest.fail("they are there"))
        assert torch.equal(again.view(0, 1).pyramid[2], first.pyramid[2])
    for stills, seed in (([two_halves(96)], 0), ([two_halves()], 1)):
        with pytest.raises(FileExistsError, match="other images, another model or another seed"):
            features.FeatureCache(small_model, stills, 11, tmp_path, seed=seed)
    monkeypatch.setattr(features, "CACHE_BYTES", 3 * cache.view_bytes)
    small = features.FeatureCache(small_model, [two_halves()] * 2, 11, tmp_path / "b", seed=0)
    assert small.views == 1


def test_calibration_makes_scores_true(small_model: Sam2Model, tmp_path: Path) -> None:
    """Scores that are far too sure become less so."""
    model, found = semantics.train_semantics(
        small_model, [two_halves(), two_halves(96)], CAMVID, tmp_path, steps=3, held_out={1}
    )
    cache = features.FeatureCache(
        small_model, [two_halves(), two_halves(96)], 11, tmp_path / "features", 0
    )
    assert found is not None
    for layer in (model.head.classify, model.classifier.layers[-1]):
        for parameter in layer.parameters():
            parameter.data.mul_(2.5)
    spoilt = semantics.examine(model, cache, [1])
    semantics.calibrate(model, cache, [1])
    mended = semantics.examine(model, cache, [1])
    assert np.array_equal(mended.dense.counts, spoilt.dense.counts)
    assert mended.dense_error == pytest.approx(found.dense_error, abs=0.01)
    assert semantics.calibration_error(torch.tensor([[0.9, 1.0], [0.9, 0.0]])) == pytest.approx(0.4)


def test_nothing_to_train_on(small_model: Sam2Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stills"):
        nano.train_nano([], CAMVID, tmp_path / "a")
    with pytest.raises(ValueError, match="stills"):
        semantics.train_semantics(small_model, [], CAMVID, tmp_path / "b", steps=1)
    with pytest.raises(ValueError, match="stills"):
        semantics.train_semantics(
            small_model, [two_halves()], CAMVID, tmp_path / "c", steps=1, held_out={0}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "images is not a folder"),
        (["--holdout", "1"], "holdout: 1.0"),
        (["--steps", "0"], "steps: 0"),
    ],
)
def test_train_semantics_says_what_is_wrong(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    assert main(["train", "semantics", "--data", str(tmp_path), "--out", str(out), *options]) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
