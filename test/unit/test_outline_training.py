"""Training of what finds a thing by a click: pictures, prompts, loss, runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cli_streams import run
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.pointing import INSIDE, OUTSIDE
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.training.data import LabelledStill
from sam2vss_ros.training.outline import PromptStream, outline_loss, train_outline
from sam2vss_ros.training.pasted import Pictures
from sam2vss_ros.training.procedural import make_clip

SIZE = (96, 128)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    catalog = load_catalog("camvid")
    clips = [make_clip(seed, 1, (240, 320), kind="street") for seed in range(4)]
    stills = []
    for i, clip in enumerate(clips):
        classes = clip.class_ids[clip.instances[0]]
        labels = np.where(classes < 0, 255, classes).astype(np.uint8)
        stills.append(LabelledStill(f"{i}", clip.frames[0], labels))
    return Pictures.collect(stills, catalog, None)


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def test_things_are_cut_out_whole(pictures: Pictures) -> None:
    assert pictures.cutouts and not pictures.frames
    for cutout in pictures.cutouts:
        assert cutout.image.shape[:2] == cutout.mask.shape and cutout.mask.sum() >= 500
        sides = (cutout.mask[0], cutout.mask[-1], cutout.mask[:, 0], cutout.mask[:, -1])
        assert all(side.any() for side in sides), "a cutout is no larger than its thing"


def test_what_is_pasted_is_seen_where_it_is_marked(pictures: Pictures) -> None:
    """The picture changes there, and nowhere far from there."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        image = np.full((*SIZE, 3), 255, np.uint8)
        ids = np.zeros(SIZE, np.int32)
        after = pictures._paste(rng, image, ids, 1)
        changed, marked = (after != image).any(2), ids == 1
        assert marked.any() and changed[marked].mean() > 0.9
        assert (changed & ~marked).sum() <= marked.sum() + 400


def test_prompts_say_what_their_masks_show(pictures: Pictures) -> None:
    stream = PromptStream(pictures, seed=0, first_step=0)
    boxes = clicks = 0
    for step in range(4):
        batch = stream.batch(np.random.default_rng(step))
        height, width = batch.images.shape[-2:]
        for pointers, masks in zip(batch.pointers, batch.masks, strict=True):
            for k, mask in enumerate(masks):
                assert mask.any()
                if pointers.boxed[k]:
                    boxes += 1
                    x0, y0, x1, y1 = (pointers.boxes[k] * torch.tensor([width, height] * 2)).int()
                    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() > 0.7 * mask.sum()
                    continue
                clicks += 1
                where = (pointers.points[k] * torch.tensor([width, height])).long()
                hit = mask[where[:, 1], where[:, 0]]
                assert hit[pointers.labels[k] == INSIDE].all()
                assert not hit[pointers.labels[k] == OUTSIDE].any()
    assert boxes > 3 and clicks > 20


def test_only_the_best_mask_learns_much() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    good, bad = 8 * truth - 4, 4 - 8 * truth
    masks = torch.stack([bad, good, bad], 1).requires_grad_()
    loss, record = outline_loss(masks, truth)
    loss.backward()
    assert record["iou"] == 1 and record["loss"] < 0.2
    worst, _ = outline_loss(torch.stack([bad] * 3, 1), truth)
    assert float(worst) > 10 * record["loss"]
    assert masks.grad is not None
    alone = bad[:, None].clone().requires_grad_()
    outline_loss(alone, truth)[0].backward()
    assert alone.grad is not None
    assert float(masks.grad[:, 0].abs().sum()) < 0.1 * float(alone.grad.abs().sum())


def test_a_run_learns_and_is_resumed(
    pictures: Pictures, model: AffinityModel, tmp_path: Path
) -> None:
    train_outline(pictures, model, tmp_path / "run", steps=2)
    with pytest.raises(FileExistsError, match="give --resume"):
        train_outline(pictures, model, tmp_path / "run", steps=3)
    network = train_outline(pictures, model, tmp_path / "run", steps=3, resume=True)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3]
    assert all(0 <= line["iou"] <= 1 and np.isfinite(line["loss"]) for line in log)
    fresh: dict[str, Tensor] = type(network)().state_dict()
    assert any(not torch.equal(fresh[k], v) for k, v in network.state_dict().items())
    assert not network.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "0"), "steps: 0 is not positive"),
        (("--videos", "nowhere"), "videos: nowhere is not a folder"),
        (("--out", "nowhere/x.safetensors"), "out: the folder of nowhere/x.safetensors"),
    ],
)
def test_options_that_do_not_do(
    options: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ("--data", str(tmp_path), "--out", str(tmp_path / "o.safetensors"))
    assert run("train", "outline", *usual, *options) != 0
    assert message in capsys.readouterr().err
