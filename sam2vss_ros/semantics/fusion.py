"""Masks, their classes and the dense prediction become label, confidence and owner images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MASK_EVIDENCE = 0.5
"""Weight of an object's class posterior against one pixel's dense evidence in fused mode."""

PURITY = 3
"""The purer an object, the more it counts: power of its likeliest class's share."""

POSTERIOR_FLOOR = 0.02
"""No object rules a class out: masks drift, and their pixels may say otherwise."""

SURE_OBJECT, SURE_PIXEL = 0.9, 0.7
"""An object this sure of its class overrules pixels that are less sure of theirs."""


class Fused(NamedTuple):
    """Images of (h, w): classes, int64 class index; confidence, float32 0..1; owner, int64 position
    of the object that owns the pixel, -1 for none; entropy over the classes in nats, float32, None
    where it was not asked for."""

    classes: Tensor
    confidence: Tensor
    owner: Tensor
    entropy: Tensor | None = None


def fuse(
    mode: str,
    dense: Tensor,
    masks: Tensor,
    posteriors: Tensor,
    size: tuple[int, int],
    with_entropy: bool = False,
) -> Fused:
    """Label every pixel of an image of `size` (height, width).

    dense: (K, ., .) log probabilities. masks: (N, ., .) logits of the visible objects.
    posteriors: (N, K) class probabilities of the objects. All are upsampled to `size` first.

    refine (the paper's approach 1): a mask takes the majority class of the dense prediction inside
    it. classify (approach 2): a mask takes the likeliest class of its object. fused: the pixel's
    dense evidence and the object's posterior are added up.

    Unlike the paper, in refine and classify a mask only overrules pixels that are not sure, and
    only if nearly all of it is, or probably is, of its class. Everything else keeps the dense
    label.
    """
    dense = upsample(dense, size)
    owner = owners(upsample(masks, size)) if len(masks) else dense.new_full(size, -1).long()
    if mode == "fused":
        weight = MASK_EVIDENCE * posteriors.amax(1, keepdim=True) ** PURITY
        bonus = weight * (posteriors + POSTERIOR_FLOOR).log()
        # The last column stands for pixels that no object speaks for.
        table = torch.cat([bonus, bonus.new_zeros(1, len(dense))]).T.contiguous()
        speaker = torch.where(owner >= 0, owner, len(masks)).flatten()
        # In place: on a CPU, taking memory for another large map costs as much as filling it.
        evidence = table.index_select(1, speaker).view_as(dense).add_(dense)
        best, classes = strongest(evidence)
        shares = evidence.sub_(best).exp_()
        confidence = shares.sum(0).reciprocal_()
        entropy = entropy_of(shares.mul_(confidence)) if with_entropy else None
        return Fused(classes, confidence, owner, entropy)
    shares, classes = dense.softmax(0), strongest(dense)[1]
    confidence, entropy = shares.amax(0), entropy_of(shares) if with_entropy else None
    if not len(masks):
        return Fused(classes, confidence, owner, entropy)
    votes = posteriors if mode == "classify" else _votes(classes, owner, len(masks), len(dense))
    best, winner = votes.max(1)
    overruled = (owner >= 0) & (best[owner] >= SURE_OBJECT) & (confidence < SURE_PIXEL)
    return Fused(
        torch.where(overruled, winner[owner], classes),
        torch.where(overruled, best[owner], confidence),
        owner,
        None if entropy is None else torch.where(overruled, entropy_of(votes.T)[owner], entropy),
    )


def entropy_of(shares: Tensor) -> Tensor:
    """(...) in nats, of (K, ...) shares that add up to 1."""
    return torch.special.entr(shares).sum(0)


def owners(masks: Tensor) -> Tensor:
    """Which of (N, h, w) mask logits owns each pixel: the strongest above 0, else -1."""
    best, owner = strongest(masks)
    return torch.where(best > 0, owner, -1)


def strongest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest of (N, h, w) maps at each pixel, and which one it is (int64; of equals the
    first). On a CPU torch's own `max` over the first dimension takes four times as long."""
    best = maps.amax(0)
    last = len(maps) - 1
    smallest = torch.uint8 if last < 256 else torch.int16
    behind = torch.arange(last, -1, -1, dtype=smallest, device=maps.device)[:, None, None]
    found = (maps == best).view(torch.uint8).to(smallest).mul_(behind)
    return best, last - found.amax(0).long()


def _votes(classes: Tensor, owner: Tensor, objects: int, count: int) -> Tensor:
    """(objects, count) share of each class among an object's pixels."""
    inside = owner >= 0
    pairs = owner[inside] * count + classes[inside]
    votes = torch.bincount(pairs, minlength=objects * count).view(objects, count).float()
    return votes / votes.sum(1, keepdim=True).clamp(min=1)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, ., .) logits or log probabilities -> (N, height, width)."""
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
