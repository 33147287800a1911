"""Losses of SAM 2's outputs and of its features."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.sam2.functional import Decoded
from sam2vss_ros.training.data import VOID


def mask_loss(logits: Tensor, target: Tensor, focus: float) -> tuple[Tensor, Tensor]:
    """Loss and true IoU, both (B, M), of (B, M, h, w) logits against (B, 1, h, w) soft masks.

    `focus` from 0 to 1 moves from class-balanced cross entropy, which learns from nothing, to
    focal loss, which sharpens; dice accompanies both.
    """
    target = target.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    focal = (entropy * (probability - target).abs().square()).mean((2, 3))
    overlap = (probability * target).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    inside = (entropy * target).sum((2, 3)) / (target.sum((2, 3)) + 1)
    outside = (entropy * (1 - target)).sum((2, 3)) / ((1 - target).sum((2, 3)) + 1)
    with torch.no_grad():
        found, real = logits > 0, target > 0.5
        union = (found | real).sum((2, 3)).clamp(min=1)
        iou = (found & real).sum((2, 3)) / union
    return 20 * focus * focal + dice + (1 - focus) * (inside + outside), iou


def decoder_loss(
    decoded: Decoded, target: Tensor, present: Tensor, multimask: Tensor, focus: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of one frame's decoding, the index of the best token, and the IoU of token 0.

    target: (B, 1, h, w) soft masks; present: (B,) bool, the object is there; multimask: (B,) bool,
    ambiguous prompts, of which the best of tokens 1 to 3 learns as well (upstream's rule).
    """
    loss, iou = mask_loss(decoded.masks, target, focus)
    here, many = present.float(), multimask.float()
    count = here.sum().clamp(min=1)
    best = loss[:, 1:].argmin(1)
    best_loss = loss[:, 1:].gather(1, best[:, None])[:, 0]
    # The other tokens get a little gradient too, or the first winner takes all for ever.
    per_object = loss[:, 0] * (1 - 0.5 * many) + many * (best_loss + 0.05 * loss[:, 1:].mean(1))
    error = (decoded.ious - iou).abs()
    quality = error[:, 0] + many * error[:, 1:].mean(1)
    score = F.binary_cross_entropy_with_logits(decoded.score[:, 0], here)
    total = ((per_object + quality) * here).sum() / count + score
    return total, torch.where(multimask, best + 1, torch.zeros_like(best)), iou[:, 0]


def region_contrast(pyramid: tuple[Tensor, ...], regions: Tensor, samples: int = 192) -> Tensor:
    """Features of one region should be alike, of two regions unlike, at every level.

    pyramid: (B, C, ., .) maps; regions: (B, S, S) ids. Compares `samples` random pixels per image.
    """
    total = regions.new_zeros((), dtype=torch.float32)
    for level in pyramid:
        side = level.shape[-1]
        stride = regions.shape[-1] // side
        ids = regions[:, stride // 2 :: stride, stride // 2 :: stride].flatten(1)
        pixels = torch.randint(0, side * side, (samples,), device=level.device)
        vectors = F.normalize(level.flatten(2)[:, :, pixels], dim=1)
        similarity = 10 * torch.einsum("bci,bcj->bij", vectors, vectors) - 5
        same = (ids[:, pixels, None] == ids[:, None, pixels]).float()
        entropy = F.binary_cross_entropy_with_logits(similarity, same, reduction="none")
        alike = (entropy * same).sum() / same.sum().clamp(min=1)
        unlike = (entropy * (1 - same)).sum() / (1 - same).sum().clamp(min=1)
        total = total + 0.5 * (alike + unlike)
    return total / len(pyramid)


def class_weights(counts: np.ndarray) -> Tensor:
    """(C,) pixel counts -> (C,) loss weights: rare classes count more, by the square root."""
    share = counts / counts.sum()
    weights = np.sqrt(np.median(share[share > 0]) / np.maximum(share, 1e-6))
    return torch.from_numpy(np.clip(weights, 0.2, 5.0).astype(np.float32))


def label_loss(logits: Tensor, labels: Tensor, weights: Tensor, void: int) -> Tensor:
    """Cross entropy of (B, C, h, w) logits, upsampled to half of the labels' size."""
    half = labels[:, ::2, ::2]
    upsampled = F.interpolate(logits, size=half.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(upsampled, half, weights, ignore_index=void)


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
