"""Training of the keys: pairs of views, loss, runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vss_ros.affinity.keys import KeyNet
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.training import keys
from sam2vss_ros.training.keys import reading_loss, train_keys
from sam2vss_ros.training.pairs import MOTION, NOWHERE, PASTED, make_pair
from sam2vss_ros.training.pasted import Pictures
from street_stills import CAMVID, street


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.collect([street()], CAMVID, None)


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def test_what_moves_keeps_its_id_and_its_look(pictures: Pictures) -> None:
    rng = np.random.default_rng(0)
    moved = []
    for _ in range(8):
        pair = make_pair(pictures, rng)
        assert pair.images.shape[2:] == pair.ids.shape[1:] and pair.images.dtype == torch.uint8
        assert MOTION[0] <= pair.motion <= MOTION[1]
        first, second = pair.ids
        assert (first >= 0).all(), "all of the first view is known"
        assert set(second.unique().tolist()) - {NOWHERE} <= set(first.unique().tolist())
        if (first == PASTED).sum() > 400 and (second == PASTED).sum() > 400:
            looks = [
                image[:, ids == PASTED].float().mean(1)
                for image, ids in zip(pair.images, pair.ids, strict=True)
            ]
            assert (looks[0] - looks[1]).abs().mean() < 80
            places = [(ids == PASTED).nonzero().float().mean(0) for ids in pair.ids]
            moved.append(float((places[0] - places[1]).norm()))
    assert len(moved) > 3 and max(moved) > 5, "things move by themselves"


def test_the_loss_knows_right_from_wrong() -> None:
    """Keys that say where the halves are read all of them right; keys that say nothing, not."""
    torch.manual_seed(0)
    ids = torch.zeros(2, 96, 96, dtype=torch.int64)
    ids[:, :, 48:] = 1
    telling = torch.randn(2, 24, 24, 24) * 0.01
    telling[:, 0] += torch.where(ids[:, ::4, ::4] > 0, 1.0, -1.0)
    others = torch.zeros(2, 32, 12, 12), torch.zeros(2, 96, 6, 6)
    network = KeyNet()
    network.requires_grad_(False)
    loss, right = reading_loss(network, (telling, *others), ids)
    assert right > 0.97
    blind, guessed = reading_loss(network, (torch.randn_like(telling), *others), ids)
    assert guessed < right and float(blind) > float(loss)
    unknown = torch.full_like(ids, NOWHERE)
    nothing, _ = reading_loss(network, (telling, *others), unknown)
    assert bool(torch.isfinite(nothing)), "nothing that can be read"


def test_a_run_learns_and_is_resumed(
    pictures: Pictures, model: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FIRST_BATCHES", 4)
    train_keys(pictures, model, tmp_path / "run", steps=1)
    with pytest.raises(FileExistsError, match="give --resume"):
        train_keys(pictures, model, tmp_path / "run", steps=2)
    network = train_keys(pictures, model, tmp_path / "run", steps=2, resume=True)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2]
    # Begun as principal components, they read well from the first step on.
    assert all(line["right"] > 0.6 and np.isfinite(line["loss"]) for line in log)
    assert network.state_dict().keys() == KeyNet().state_dict().keys()
    assert not network.training
