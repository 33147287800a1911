"""Training of the embedded segmentation network."""

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
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.cli import main
from sam2vss_ros.evaluation.confusion import ConfusionMatrix
from sam2vss_ros.semantics.networks import embedded
from sam2vss_ros.semantics.networks.embedded import (
    load_embedded,
    read_embedded,
)
from sam2vss_ros.semantics.networks.network import TensorNetwork
from sam2vss_ros.training import data, network, views
from sam2vss_ros.training.data import VOID, LabelledStill
from sam2vss_ros.types import Frame
from street_stills import CAMVID, CARD, CPU, street, worn_network

# -- views


def test_views_keep_image_and_labels_together() -> None:
    """Sky and road have each a colour of their own in every view, by which the labels are found."""
    stream = views.ViewStream([street()], len(CAMVID), count=16, size=64, seed=0, first_step=0)
    batch = next(iter(stream))
    assert batch.images.shape == (16, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.labels.shape == (16, 64, 64) and batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {VOID, 0, 2, 3}
    greener = []
    for image, labels in zip(batch.images.permute(0, 2, 3, 1), batch.labels, strict=True):
        if not {0, 3} <= set(labels.unique().tolist()):
            continue
        sky, road = (image[labels == index].float().median(0).values for index in (0, 3))
        nearer_to_sky = (image - sky).abs().sum(-1) < (image - road).abs().sum(-1)
        known = (labels == 0) | (labels == 3)
        assert (nearer_to_sky == (labels == 0))[known].float().mean() > 0.9
        # The road is purple, the sky grey: a change of their colours seldom turns that round.
        shares = [float(colour[1] / colour.sum()) for colour in (sky, road)]
        greener.append(shares[0] > shares[1])
    assert len(greener) >= 5 and np.mean(greener) > 0.7


def test_step_k_has_the_same_views_whatever_came_before_it() -> None:
    def from_step(step: int) -> Any:
        return iter(
            views.ViewStream([street()], len(CAMVID), count=2, size=64, seed=1, first_step=step)
        )

    early, late = from_step(3), from_step(4)
    third, fourth = next(early), next(early)
    again = next(late)
    assert torch.equal(fourth.images, again.images) and torch.equal(fourth.labels, again.labels)
    assert not torch.equal(third.images, fourth.images)


def test_a_view_is_a_part_of_the_image_whatever_its_size() -> None:
    labels = np.zeros((120, 180), np.uint8)
    for seed in range(20):
        matrix = views.view_matrix(labels.shape, 96, np.random.default_rng(seed))
        # It shows from a seventh to a half of the rows.
        assert 17 < 96 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 62
        seen = cv2.warpAffine(labels, matrix, (96, 96), flags=cv2.INTER_NEAREST, borderValue=255)
        assert (seen != 255).mean() > 0.2
        double = views.view_matrix((240, 360), 96, np.random.default_rng(seed))
        assert double[:, :2] == pytest.approx(matrix[:, :2] / 2)


def test_relit_takes_any_brightness() -> None:
    rng = np.random.default_rng(0)
    dusk, day = (np.full((32, 32, 3), v, np.uint8) for v in (60, 130))
    for image in (dusk, day):
        means = [views.relit(image, rng).mean() for _ in range(60)]
        assert min(means) < 80 and max(means) > 120
    for extreme in (np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)):
        assert views.relit(extreme, rng).dtype == np.uint8


def test_images_with_rare_classes_come_more_often() -> None:
    plain = LabelledStill(
        "plain", street().image, np.where(street().labels == 2, 0, street().labels)
    )
    stream = views.ViewStream(
        [plain, street()], len(CAMVID), count=1, size=64, seed=0, first_step=0
    )
    assert stream._chance[1] > 2 * stream._chance[0] > 0
    assert stream._chance.sum() == pytest.approx(1)


# -- losses and figures


def test_a_perfect_prediction_costs_nothing_and_void_is_skipped() -> None:
    labels = torch.from_numpy(street().labels.astype(np.int64))[None]
    labels[labels == 255] = VOID
    perfect = 40 * F.one_hot(labels.clamp(min=0), 11).permute(0, 3, 1, 2).float()
    weights = torch.ones(11)
    entropy, overlap = network.dense_losses(perfect, labels, weights)
    assert entropy < 0.2 and overlap < 0.15  # upsampled and pooled again: boundaries blur
    perfect[:, :, labels[0] == VOID] = torch.randn(11, 1)
    _, again = network.dense_losses(perfect, labels, weights)
    assert again == pytest.approx(overlap.item(), abs=0.02)
    entropy, overlap = network.dense_losses(-perfect, labels, weights)
    assert entropy > 5 and overlap > 0.9
    assert network.coarse_loss(perfect[:, :, 4::8, 4::8], labels, weights) < 1e-4


def test_void_alone_costs_nothing_but_nan_free_overlap() -> None:
    labels = torch.full((1, 16, 16), VOID)
    _, overlap = network.dense_losses(torch.randn(1, 11, 4, 4), labels, torch.ones(11))
    assert overlap == 1


def test_the_learning_rate_rises_rests_and_falls_to_zero() -> None:
    rates = [network.learning_rate(step, 1000) for step in range(1001)]
    peak = network.PEAK_RATE
    assert rates[0] < 0.01 * peak and rates[network.WARMUP_STEPS] == rates[500] == peak
    assert 0 < rates[999] < 0.01 * peak and rates[1000] == 0


def test_the_end_of_each_recording_is_kept_out() -> None:
    names = [f"a_{i:03d}" for i in range(10)] + [f"b2_f{i:03d}" for i in range(20)]
    used, kept = network.split_off([street(n) for n in names], 0.1)
    assert [s.name for s in kept] == ["a_009", "b2_f018", "b2_f019"]
    assert sorted(s.name for s in [*used, *kept]) == sorted(names)
    assert network.split_off([street()], 0.0)[1] == []


def test_calibration_finds_false_confidence_and_false_priors() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.4, 0.5, 1.0, 2.0, 4.0])
    honest = (torch.randn(20000, 5) * 2).log_softmax(1)
    truth = torch.distributions.Categorical(logits=honest).sample()

    def error(scores: Tensor) -> float:
        return network.NetworkScore(ConfusionMatrix(CAMVID), scores, truth).calibration_error()

    assert network.best_calibration(honest, truth, weights) == pytest.approx((0, 1), abs=0.08)
    assert error(honest) < 0.02
    biased = 2 * (honest + 0.6 * weights.log())
    assert error(biased) > 0.05
    correction, temperature = network.best_calibration(biased, truth, weights)
    assert (correction, temperature) == pytest.approx((1, 2), rel=0.25)
    assert error((biased - correction * weights.log()) / temperature) < 0.02


def drawn(honest: TensorNetwork, seed: int) -> LabelledStill:
    """Noise, with labels drawn from the probabilities that a network gives each of its pixels."""
    torch.manual_seed(seed)
    image = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
    logits = F.interpolate(
        honest.log_probabilities(Frame(image, 0))[None], (128, 128), mode="bilinear"
    )[0]
    labels = torch.distributions.Categorical(logits=logits.permute(1, 2, 0)).sample()
    return LabelledStill(f"noise_{seed}", image, labels.numpy().astype(np.uint8))


def test_calibration_takes_back_what_is_wrong_with_a_network() -> None:
    """One that is right about its labels, made to be twice as sure and to like rare classes."""
    right, weights = worn_network(), torch.linspace(0.4, 4, 11)
    card = replace(CARD, shortest=128, temperature=1.0)
    stills = [drawn(embedded.ready(right, card, "", CPU), seed) for seed in range(3)]
    wrong = deepcopy(right)
    assert wrong.classify.bias is not None and right.classify.bias is not None
    wrong.classify.bias.data += 0.4 * weights.log()
    mended, found, score = network.calibrated(
        wrong, replace(card, temperature=0.5), weights, stills, CPU
    )
    assert found.temperature == pytest.approx(1, abs=0.1)
    assert mended.classify.bias is not None
    torch.testing.assert_close(mended.classify.bias, right.classify.bias, atol=0.15, rtol=0)
    assert score.calibration_error() < 0.04
    assert found.training == {"steps": 0, "held_out": score.as_json()}
    again = network.score_network(embedded.ready(mended, found, "", CPU), stills)
    torch.testing.assert_close(again.scores, score.scores)
    kept = right.classify.bias + 0.4 * weights.log()
    torch.testing.assert_close(wrong.classify.bias, kept, msg="it is a copy that is mended")
    assert card.training == {"steps": 0}


# -- runs


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Material made here and not by another process, which takes seconds to start."""
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    monkeypatch.setattr(network, "CHECKPOINT_EVERY", 1)


def train(out: Path, steps: int, resume: bool = False) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = network.train_network(
        [street()], CAMVID, out, steps=steps, resume=resume, device=CPU, views=2, size=64
    ).state_dict()
    return weights


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", 3)
    step = network._train_step

    def stopping(state: Any, *args: Any) -> dict[str, float]:
        if state.step == 2:
            raise KeyboardInterrupt
        return step(state, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(network, "_train_step", stopping)
        train(tmp_path / "broken", 3)
    with pytest.raises(FileExistsError, match="--resume"):
        train(tmp_path / "broken", 3)
    resumed = train(tmp_path / "broken", 3, resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    log = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]


@pytest.mark.usefixtures("in_process")
def test_it_learns_a_street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing: the losses of the first steps must fall clearly."""
    monkeypatch.setattr(network, "WARMUP_STEPS", 5)
    monkeypatch.setattr(network, "CHECKPOINT_EVERY", 100)
    train(tmp_path, 25)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for loss, limit in (("entropy", 0.7), ("overlap", 0.92)):
        first, last = (np.mean([r[loss] for r in part]) for part in (log[:5], log[-5:]))
        assert last < limit * first, loss


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
    small = dict(network.train_network.__kwdefaults__ or {}) | {"views": 2, "size": 64}
    monkeypatch.setattr(network.train_network, "__kwdefaults__", small)
    folder = folder_of([street(f"a_{i}") for i in range(4)], tmp_path / "data")
    out = tmp_path / "net.safetensors"
    command = ["train", "network", "--data", str(folder), "--out", str(out), "--device", "cpu"]
    command += ["--steps", "2", "--holdout", "0.25", "--shortest", "64"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "trained on 3 images" in printed and "on 1 held-out images: mIoU" in printed
    assert "Pole" in printed
    card = read_embedded(out)[1]
    assert card.shortest == 64 and card.catalog == CAMVID
    assert card.training["images"] == 3 and card.training["steps"] == 2
    assert card.training["held_out"]["per_class_iou"]["Car"] is None
    assert load_embedded(out, CPU).log_probabilities(Frame(street().image, 0)).shape == (11, 16, 16)
    assert (tmp_path / "net.run" / "curves.png").is_file()
    assert main(command) == 2
    assert "give --resume to go on or another --out" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "images is not a folder"),
        (("--holdout", "1"), "holdout: 1.0 is not a share from 0 to below 1"),
        (("--steps", "0"), "steps: 0 is not positive"),
        (("--shortest", "-5"), "shortest: -5 is not positive"),
        (("--classes", "nowhere"), "shipped by name"),
        (("--out", "/nowhere/net.safetensors"), "out: the folder of /nowhere/net"),
    ],
)
def test_bad_options_are_named(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    command = ("train", "network", "--data", str(tmp_path), "--out", str(out), *options)
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not out.exists()


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stills"):
        network.train_network([], CAMVID, tmp_path / "run", steps=1, device=CPU)
    assert not list(tmp_path.iterdir())
