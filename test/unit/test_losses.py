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
    weights, shares = torch.ones(11), losses.class_shares(labels, 11)
    entropy, overlap = losses.dense_losses(perfect, shares, weights)
    assert entropy < 0.2 and overlap < 0.15  # upsampled and pooled again: boundaries blur
    perfect[:, :, labels[0] == VOID] = torch.randn(11, 1)
    _, again = losses.dense_losses(perfect, shares, weights)
    assert again == pytest.approx(overlap.item(), abs=0.02)
    entropy, overlap = losses.dense_losses(-perfect, shares, weights)
    assert entropy > 5 and overlap > 0.9


def test_void_alone_costs_nothing_but_nan_free_overlap() -> None:
    shares = losses.class_shares(torch.full((1, 16, 16), VOID), 11)
    entropy, overlap = losses.dense_losses(torch.randn(1, 11, 4, 4), shares, torch.ones(11))
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
    shares = losses.class_shares(labels, 3)

    def cost(shift: int) -> float:
        seen = F.avg_pool2d(there.roll((shift, shift), (2, 3)), 2)
        return float(sum(losses.dense_losses(seen.clamp(min=1e-3).log(), shares, torch.ones(3))))

    left, right = cost(-1), cost(1)
    assert cost(0) < 0.8 * min(left, right) and left == pytest.approx(right, rel=0.15)


def test_pixels_near_another_class_count_more() -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, :, 32:] = 1
    labels[:, 48:] = VOID
    shares = losses.class_shares(labels, 2)
    near = losses.near_outlines(shares)[0]
    assert near[:16].any(dim=0).nonzero().flatten().tolist() == list(range(12, 20))
    right = 6 * (2 * shares - 1)
    far_off, off_near = right.clone(), right.clone()
    far_off[:, :, :20, 2:4] *= -1
    off_near[:, :, :20, 14:16] *= -1
    far, close = (
        losses.dense_losses(x, shares, torch.ones(2))[0].item() for x in (far_off, off_near)
    )
    assert close == pytest.approx(2 * far, rel=0.1)


def test_a_second_opinion_counts_half_and_alone_where_nothing_is_labelled() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, 8:] = VOID
    shares = losses.class_shares(labels, 2)
    second = torch.zeros(1, 2, 8, 8)
    second[:, 1] = 1

    def entropy(share_above: float, share_below: float) -> float:
        first = torch.full((8, 8), share_above)
        first[4:] = share_below
        logits = torch.stack([first, 1 - first])[None].log()
        return float(losses.dense_losses(logits, shares, torch.ones(2), second)[0])

    best = entropy(0.5, 0.01)
    assert best < entropy(0.7, 0.01) and best < entropy(0.3, 0.01) and best < entropy(0.5, 0.2)
