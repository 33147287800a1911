"""Masks, their classes and the dense prediction become label, confidence and owner images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MASK_EVIDENCE = 0.5
"""Weight of an object's class belief against one pixel's dense evidence in fused mode."""

LEAST_BELIEF = 0.01
"""No object rules a class out: masks drift, and their pixels may say otherwise."""


class Fused(NamedTuple):
    """Three (h, w) images: classes, int64 class index; confidence, float32 0..1; owner, int64
    position of the object that owns the pixel, -1 for none."""

    classes: Tensor
    confidence: Tensor
    owner: Tensor


def fuse(mode: str, dense: Tensor, masks: Tensor, beliefs: Tensor, size: tuple[int, int]) -> Fused:
    """Label every pixel of an image of `size` (height, width).

    dense: (K, ., .) log probabilities. masks: (N, ., .) logits of the visible objects.
    beliefs: (N, K) class probabilities of the objects. All are raised to `size` first.

    refine (the paper's approach 1): a mask takes the majority class of the dense prediction inside
    it. classify (approach 2): a mask takes the class of its own belief. Outside masks both keep
    the dense label. fused: the pixel's dense evidence and the object's belief, as independent
    evidence.
    """
    dense = raise_to(dense, size)
    owner = owners(raise_to(masks, size)) if len(masks) else dense.new_full(size, -1).long()
    if mode == "fused":
        # The last row, which index -1 finds, stands for pixels without an object.
        bonus = MASK_EVIDENCE * beliefs.clamp(min=LEAST_BELIEF).log()
        table = torch.cat([bonus, bonus.new_zeros(1, len(dense))])
        evidence = dense + table[owner].permute(2, 0, 1)
        best, classes = evidence.max(0)
        return Fused(classes, 1 / (evidence - best).exp().sum(0), owner)
    confidence, classes = dense.max(0)
    confidence = confidence.exp()
    if not len(masks):
        return Fused(classes, confidence, owner)
    votes = beliefs if mode == "classify" else _votes(classes, owner, len(masks), len(dense))
    best, winner = votes.max(1)
    return Fused(
        torch.where(owner >= 0, winner[owner], classes),
        torch.where(owner >= 0, best[owner], confidence),
        owner,
    )


def owners(masks: Tensor) -> Tensor:
    """Which of (N, h, w) mask logits owns each pixel: the strongest above 0, else -1."""
    best, owner = masks.max(0)
    return torch.where(best > 0, owner, -1)


def _votes(classes: Tensor, owner: Tensor, objects: int, count: int) -> Tensor:
    """(objects, count) share of each class among an object's pixels."""
    inside = owner >= 0
    pairs = owner[inside] * count + classes[inside]
    votes = torch.bincount(pairs, minlength=objects * count).view(objects, count).float()
    return votes / votes.sum(1, keepdim=True).clamp(min=1)


def raise_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, ., .) logits or log probabilities -> (N, height, width)."""
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
