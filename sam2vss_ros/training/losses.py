"""Losses of the dense prediction."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.training.data import VOID

OUTLINE_WEIGHT = 1.0
"""What a pixel weighs more in the cross entropy where another class is near."""

NEAR = 4
"""Pixels of the view's half size."""


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


def near_outlines(shares: Tensor) -> Tensor:
    """(B, h, w) bool: where (B, C, h, w) shares have more than one class within `NEAR` pixels."""
    known, classes = shares.sum(1, keepdim=True) > 0, shares.shape[1]
    best = shares.argmax(1, keepdim=True).float()
    least, most = (
        sign * F.max_pool2d(sign * best.where(known, nothing), 2 * NEAR + 1, 1, NEAR)
        for sign, nothing in ((-1, classes), (1, -1))
    )
    return (most > least)[:, 0]


def dense_losses(
    logits: Tensor, shares: Tensor, weights: Tensor, second: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted cross entropy, and one minus the mean soft IoU of the batch's classes.

    logits: (B, C, h, w), upsampled to the size of shares: (B, C, H, W), `class_shares` of the
    labels. second: (B, C, H, W) probabilities, a second opinion that the cross entropy is halfway
    to, and wholly where nothing is labelled; the IoU is that with the labels.
    """
    size = (shares.shape[-2], shares.shape[-1])
    upsampled = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    log_probability = upsampled.log_softmax(1)
    known = shares.sum(1, keepdim=True)
    targets = shares if second is None else shares / 2 + second * (1 - known / 2)
    weighted = targets * weights[:, None, None]
    weighted = weighted * (1 + OUTLINE_WEIGHT * near_outlines(shares)).unsqueeze(1)
    entropy = -(weighted * log_probability).sum() / weighted.sum().clamp(min=1e-6)
    probability = log_probability.exp()
    both = (probability * shares).sum((0, 2, 3))
    area = shares.sum((0, 2, 3))
    iou = both / ((probability * known).sum((0, 2, 3)) + area - both + 1)
    there = area > 0
    return entropy, 1 - (iou * there).sum() / there.sum().clamp(min=1)
