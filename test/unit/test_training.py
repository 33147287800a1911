"""Runs of the training of nano, which can be interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.training import data, nano
from sam2vss_ros.training.auxiliary import AuxiliaryHead
from stills import CAMVID, two_halves

SCHEDULE = (
    nano.Phase(steps=1, size=64, frames=2, clips=2, objects=4, stills=1),
    nano.Phase(steps=1, size=96, frames=3, clips=1, objects=3, stills=1),
)


def interrupt_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before training step `step` of the next runs."""
    train_step = nano._train_step

    def stopping(*args: Any) -> dict[str, float]:
        state = next(a for a in args if isinstance(a, nano._State))
        if state.step == step:
            raise KeyboardInterrupt
        record: dict[str, float] = train_step(*args)
        return record

    patch.setattr(nano, "_train_step", stopping)


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
        interrupt_at(1, patch)
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


def test_the_head_that_only_training_has_answers_at_quarter_resolution() -> None:
    head = AuxiliaryHead(8, classes=5, width=16).eval()
    pyramid = (torch.randn(1, 8, 32, 32), torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8))
    assert head(pyramid).shape == (1, 5, 32, 32)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stills"):
        nano.train_nano([], CAMVID, tmp_path / "a")
    assert not list(tmp_path.iterdir())
