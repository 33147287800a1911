"""Losses of the dense prediction."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.training.data import VOID


def class_weights(counts: np.ndarray) -> Tensor:
    """(C,) pixel counts -> (C,) loss weights: rare classes count more, by the square root."""
    share = counts / counts.sum()
    weights = np.sqrt(np.median(share[share > 0]) / np.maximum(share, 1e-6))
    return torch.from_numpy(np.clip(weights, 0.2, 5.0).astype(np.float32))


def dense_losses(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy, and one minus the mean soft IoU of the batch's classes.

    logits: (B, C, h, w), upsampled to half of the labels' size; labels: (B, H, W), VOID is skipped.
    """
    half = labels[:, ::2, ::2]
    upsampled = F.interpolate(logits, size=half.shape[-2:], mode="bilinear", align_corners=False)
    log_probability = upsampled.log_softmax(1)
    entropy = F.nll_loss(log_probability, half, weights, ignore_index=VOID)
    known = half != VOID
    probability = log_probability.exp() * known.unsqueeze(1)
    index = half.clamp(min=0)
    right = probability.gather(1, index.unsqueeze(1)).flatten()
    both = right.new_zeros(logits.shape[1]).index_add(0, index.flatten(), right)
    area = torch.bincount(half[known], minlength=logits.shape[1])
    iou = both / (probability.sum((0, 2, 3)) + area - both + 1)
    there = area > 0
    return entropy, 1 - (iou * there).sum() / there.sum().clamp(min=1)
