"""The losses of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam2vss_ros.training import losses
from sam2vss_ros.training.data import VOID
from street_stills import street


def test_class_weights_raise_rare_classes() -> None:
    weights = losses.class_weights(np.array([10000, 100, 1, 0]))
    assert weights[0] < 1 < weights[2]
    assert weights.min() >= 0.2 and weights.max() <= 5.0


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
    entropy, overlap = losses.dense_losses(torch.randn(1, 11, 4, 4), labels, torch.ones(11))
    assert entropy == 0 and overlap == 1


def test_a_block_has_the_shares_of_its_pixels() -> None:
    labels = torch.tensor([[[0, 1, 2, 2], [1, VOID, 2, 2], [VOID] * 4, [VOID] * 4]])
    shares = losses.class_shares(labels, 3)[0]
    assert shares.shape == (3, 2, 2)
    assert shares[:, 0, 0].tolist() == [0.25, 0.5, 0] and shares[:, 0, 1].tolist() == [0, 0, 1]
    assert not shares[:, 1].any()


def test_labels_lie_where_they_are_seen() -> None:
    """What is as sharp as it can be at half size costs least where it is not shifted."""
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, :, 21:47], labels[:, 11:35, 30:] = 1, 2
    there = F.one_hot(labels, 3).permute(0, 3, 1, 2).float()

    def cost(shift: int) -> float:
        seen = F.avg_pool2d(there.roll((shift, shift), (2, 3)), 2)
        return float(sum(losses.dense_losses(seen.clamp(min=1e-3).log(), labels, torch.ones(3))))

    left, right = cost(-1), cost(1)
    assert cost(0) < 0.8 * min(left, right) and left == pytest.approx(right, rel=0.15)
