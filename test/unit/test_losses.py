"""The losses of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.sam2.functional import Decoded
from sam2vss_ros.training import losses
from sam2vss_ros.training.data import VOID
from street_stills import street


def square(side: int = 16) -> Tensor:
    target = torch.zeros(1, 1, side, side)
    target[:, :, 4:12, 4:12] = 1
    return target


@pytest.mark.parametrize("focus", [0.0, 0.7])
def test_a_perfect_mask_costs_nothing_and_a_wrong_one_much(focus: float) -> None:
    target = square()
    perfect, iou = losses.mask_loss(target * 40 - 20, target, focus)
    assert perfect.item() < 1e-3 and iou.item() == 1
    wrong, none = losses.mask_loss(20 - target * 40, target, focus)
    assert wrong.item() > 1 and none.item() == 0


def test_iou_of_half_a_mask() -> None:
    target = square()
    half = target.clone()
    half[:, :, 8:] = 0
    both = torch.cat([half, target], 1)
    _, iou = losses.mask_loss(both * 20 - 10, target, 0.5)
    assert iou.tolist() == [[0.5, 1.0]]


def test_decoder_loss_takes_the_best_of_three_for_ambiguous_prompts() -> None:
    target = square()
    masks = torch.cat([target, 1 - target, target, 1 - target], 1) * 40 - 20
    decoded = Decoded(
        masks, torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 4, 8), torch.tensor([[20.0]])
    )
    there, ambiguous = torch.tensor([True]), torch.tensor([True])
    loss, best, iou = losses.decoder_loss(decoded, target, there, ambiguous, 0.5)
    assert best.tolist() == [2] and iou.tolist() == [1.0]
    certain, single, _ = losses.decoder_loss(decoded, target, there, ~ambiguous, 0.5)
    assert single.tolist() == [0]
    assert certain.item() < 1e-3 < loss.item()  # the other two masks of three are wrong


def test_decoder_loss_of_an_absent_object_is_its_score_alone() -> None:
    target = torch.zeros(1, 1, 16, 16)
    masks, ious = torch.full((1, 4, 16, 16), 20.0), torch.ones(1, 4)
    absent, single = torch.tensor([False]), torch.tensor([False])
    for score, low, high in ((-20.0, 0.0, 1e-3), (20.0, 19.0, 21.0)):
        decoded = Decoded(masks, ious, torch.zeros(1, 4, 8), torch.tensor([[score]]))
        loss, _, _ = losses.decoder_loss(decoded, target, absent, single, 0.5)
        assert low <= loss.item() <= high


def test_region_contrast_likes_features_that_follow_the_regions() -> None:
    regions = torch.zeros(1, 32, 32, dtype=torch.uint8)
    regions[:, :, 16:] = 1
    sides = regions[:, ::4, ::4].float()[:, None]
    torch.manual_seed(0)
    follows = losses.region_contrast((torch.cat([sides, 1 - sides], 1),), regions)
    same = losses.region_contrast((torch.ones(1, 2, 8, 8),), regions)
    assert follows < 0.1 * same


def test_class_weights_raise_rare_classes() -> None:
    weights = losses.class_weights(np.array([10000, 100, 1, 0]))
    assert weights[0] < 1 < weights[2]
    assert weights.min() >= 0.2 and weights.max() <= 5.0


def test_label_loss_skips_void() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[:, 8:] = VOID
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0, :2] = 20
    logits[:, 1, 2:] = 20  # wrong, but only where nothing is known
    logits[:, :, 2] = logits[:, :, 1]  # what bilinear interpolation mixes over the border
    assert losses.label_loss(logits, labels, torch.ones(2), VOID).item() < 1e-3


def test_a_perfect_prediction_costs_nothing_and_void_is_skipped() -> None:
    labels = torch.from_numpy(street().labels.astype(np.int64))[None]
    labels[labels == 255] = VOID
    perfect = 40 * F.one_hot(labels.clamp(min=0), 11).permute(0, 3, 1, 2).float()
    weights = torch.ones(11)
    entropy, overlap = losses.dense_losses(perfect, labels, weights)
    assert entropy < 0.2 and overlap < 0.15  # upsampled and pooled again: boundaries blur
    perfect[:, :, labels[0] == VOID] = torch.randn(11, 1)
    _, again = losses.dense_losses(perfect, labels, weights)
    assert again == pytest.approx(overlap.item(), abs=0.02)
    entropy, overlap = losses.dense_losses(-perfect, labels, weights)
    assert entropy > 5 and overlap > 0.9


def test_void_alone_costs_nothing_but_nan_free_overlap() -> None:
    labels = torch.full((1, 16, 16), VOID)
    _, overlap = losses.dense_losses(torch.randn(1, 11, 4, 4), labels, torch.ones(11))
    assert overlap == 1
