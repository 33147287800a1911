"""Scores on images that were kept out of training, and calibration by them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.semantics.model import SemanticModel
from sam2vss_ros.training import calibration
from sam2vss_ros.training.data import LabelledStill
from stills import two_halves
from street_stills import street, worn_semantics


@pytest.fixture(scope="module")
def trunk() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu", image_size=64)


def test_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    found = calibration.calibration_error(torch.tensor([0.9, 0.9]), torch.tensor([1.0, 0.0]))
    assert found == pytest.approx(0.4)
    assert calibration.calibration_error(torch.ones(3), torch.ones(3)) == 0
    assert calibration.calibration_error(torch.zeros(0), torch.zeros(0)) == 0


def test_calibration_finds_false_confidence_and_false_priors() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.4, 0.5, 1.0, 2.0, 4.0])
    honest = (torch.randn(20000, 5) * 2).log_softmax(1)
    truth = torch.distributions.Categorical(logits=honest).sample()

    def error(scores: Tensor) -> float:
        confidence, best = scores.softmax(1).max(1)
        return calibration.calibration_error(confidence, (best == truth).float())

    assert calibration.best_calibration(honest, truth, weights) == pytest.approx((0, 1), abs=0.08)
    assert error(honest) < 0.02
    biased = 2 * (honest + 0.6 * weights.log())
    assert error(biased) > 0.05
    correction, temperature = calibration.best_calibration(biased, truth, weights)
    assert (correction, temperature) == pytest.approx((1, 2), rel=0.25)
    assert error((biased - correction * weights.log()) / temperature) < 0.02


def drawn(trunk: AffinityModel, honest: SemanticModel, seed: int) -> LabelledStill:
    """Noise, with labels drawn from the probabilities that a head gives each of its pixels."""
    torch.manual_seed(seed)
    image = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
    blank = LabelledStill(f"noise_{seed}", image, np.zeros((128, 128), np.uint8))
    with torch.inference_mode():
        logits = honest.head(calibration.trunk_maps(trunk, honest, image)[0]).logits
    logits = F.interpolate(logits, (128, 128), mode="bilinear")[0]
    labels = torch.distributions.Categorical(logits=logits.permute(1, 2, 0)).sample()
    return replace(blank, labels=labels.numpy().astype(np.uint8))


def test_calibration_takes_back_what_is_wrong(trunk: AffinityModel) -> None:
    """A head that is right about its labels, made to be twice as sure and to like rare classes."""
    right, weights = worn_semantics(image_size=128), torch.linspace(0.4, 4, 11)
    right.head.classify.weight.data /= 8  # random weights are too sure of everything
    stills = [drawn(trunk, right, seed) for seed in range(3)]
    wrong = replace(right, head=deepcopy(right.head))
    assert wrong.head.classify.bias is not None
    wrong.head.classify.bias.data += 0.4 * weights.log()
    for parameter in wrong.head.classify.parameters():
        parameter.data *= 2
    spoilt = deepcopy(wrong.head.classify.state_dict())
    rough = calibration.score(trunk, wrong, stills)
    mended = calibration.calibrated(wrong, weights, rough)
    found = calibration.score(trunk, mended, stills)
    assert rough.pixel_error() > 0.1 and found.pixel_error() < 0.04
    for name, value in mended.head.classify.state_dict().items():
        torch.testing.assert_close(
            value, right.head.classify.state_dict()[name], atol=0.15, rtol=0.1
        )
        assert torch.equal(wrong.head.classify.state_dict()[name], spoilt[name]), "a copy is mended"


def test_calibration_makes_the_scores_of_masks_true(trunk: AffinityModel) -> None:
    """A classifier that is far too sure becomes less so; what it likes best stays."""
    model, weights = worn_semantics(), torch.ones(11)
    for parameter in model.classifier.layers[-1].parameters():
        parameter.data.mul_(40)
    stills = [two_halves(), two_halves(96)]
    rough = calibration.score(trunk, model, stills)
    assert len(rough.shares) == len(rough.mask_scores) >= 6
    torch.testing.assert_close(rough.shares.sum(1), torch.ones(len(rough.shares)))
    found = calibration.score(trunk, calibration.calibrated(model, weights, rough), stills)
    assert found.mask_error() < rough.mask_error()
    assert torch.equal(found.mask_scores.argmax(1), rough.mask_scores.argmax(1))
    assert found.masks_right() == rough.masks_right()


def test_a_score_without_masks(trunk: AffinityModel) -> None:
    void = replace(street(), labels=np.full((64, 64), 255, np.uint8))
    void.labels[0, 0] = 3
    found = calibration.score(trunk, worn_semantics(), [void])
    assert found.mask_scores.shape == found.shares.shape == (0, 11)
    assert found.truth.tolist() == [3] and found.masks_right() == 0 == found.mask_error()
    assert found.as_json()["per_class_iou"]["Car"] is None
    calibration.calibrated(worn_semantics(), torch.ones(11), found)
