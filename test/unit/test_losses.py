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
    _, overlap = losses.dense_losses(torch.randn(1, 11, 4, 4), labels, torch.ones(11))
    assert overlap == 1
