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


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """(B, H, W) class indices, VOID for none -> (B, classes, H/2, W/2) share of each 2x2 block."""
    pixels = F.pixel_unshuffle(labels.where(labels != VOID, classes).unsqueeze(1), 2)
    batch, four, height, width = pixels.shape
    shares = torch.zeros(batch, classes + 1, height, width, device=labels.device)
    return shares.scatter_add_(1, pixels, shares.new_full((1,), 1 / four).expand_as(pixels))[:, :-1]


def dense_losses(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy, and one minus the mean soft IoU of the batch's classes.

    logits: (B, C, h, w), upsampled to half of the labels' size and compared with the `class_shares`
    there; labels: (B, H, W), VOID is skipped.
    """
    shares = class_shares(labels, logits.shape[1])
    size = (shares.shape[-2], shares.shape[-1])
    upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    log_probability = upsampled.log_softmax(1)
    weighted = shares * weights[:, None, None]
    entropy = -(weighted * log_probability).sum() / weighted.sum().clamp(min=1e-6)
    probability, known = log_probability.exp(), shares.sum(1, keepdim=True)
    both = (probability * shares).sum((0, 2, 3))
    area = shares.sum((0, 2, 3))
    iou = both / ((probability * known).sum((0, 2, 3)) + area - both + 1)
    there = area > 0
    return entropy, 1 - (iou * there).sum() / there.sum().clamp(min=1)
