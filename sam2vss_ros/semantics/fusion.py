"""Masks, their classes and the dense prediction become label, confidence and owner images.

On a CPU maps are looked at one by one, by OpenCV and numpy, so that what is compared stays in the
cache: less than half of the time that torch takes for all of them at once.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.resampling import bilinear, resized

MASK_EVIDENCE = 0.5
"""Weight of an object's class posterior against one pixel's dense evidence in fused mode."""

PURITY = 3
"""The purer an object, the more it counts: power of its likeliest class's share."""

POSTERIOR_FLOOR = 0.02
"""No object rules a class out: masks drift, and their pixels may say otherwise."""

SURE_OBJECT, SURE_PIXEL = 0.8, 0.7
"""An object this sure of its class overrules pixels that are less sure of theirs."""

LEAST_LOGARITHM = -100.0
"""Of a share beside the largest; what is smaller adds nothing to an entropy."""


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
    only if most of it is, or probably is, of its class. Everything else keeps the dense label.
    """
    owner, evidence = owners(masks, size), bilinear(dense.float(), size)
    if mode == "fused":
        weight = MASK_EVIDENCE * posteriors.amax(1, keepdim=True) ** PURITY
        bonus = weight * (posteriors + POSTERIOR_FLOOR).log()
        # The first column stands for pixels that no object speaks for.
        table = torch.cat([bonus.new_zeros(1, len(dense)), bonus]).T.contiguous()
        place = owner.flatten() + 1
        for map_, row in zip(evidence, table, strict=True):  # one by one takes less memory
            map_ += row.index_select(0, place).view_as(map_)
    best, classes = strongest(evidence)
    # In place: on a CPU, taking memory for another large map costs as much as filling it.
    below = evidence.sub_(best)
    shares = _exp_(below.clone() if with_entropy else below)
    confidence = shares.sum(0).reciprocal_()
    entropy = None
    if with_entropy:  # without another logarithm of every share
        mean = (shares * below.clamp_(min=LEAST_LOGARITHM)).sum(0) * confidence
        entropy = (-mean - confidence.log()).clamp_(min=0)
    if mode == "fused" or not len(masks):
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


def owners(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Which of (N, ., .) mask logits, upsampled to `size`, owns each pixel: the strongest above 0,
    else -1 (int64, (height, width))."""
    if not len(masks):
        return torch.full(size, -1, device=masks.device)
    if masks.device.type != "cpu":
        greatest, which = strongest(bilinear(masks, size))
        return torch.where(greatest > 0, which, -1)
    best, owner = np.zeros(size, np.float32), np.full(size, -1, np.int16)
    for i, mask in enumerate(masks.float().numpy()):
        part, large = _upsampled_inside(mask, size)
        np.copyto(owner[part], i, where=large > best[part])
        np.maximum(best[part], large, out=best[part])
    return torch.from_numpy(owner).long()


def _upsampled_inside(
    mask: npt.NDArray[np.float32], size: tuple[int, int]
) -> tuple[tuple[slice, slice], npt.NDArray[np.float32]]:
    """The part of an image of `size` (height, width) in which a mask's logits are above 0, and the
    logits there."""
    (h, w), (height, width) = mask.shape, size
    if height % h or width % w:  # a part would be sampled elsewhere than the whole
        return np.s_[:, :], resized(mask, size)
    down, across = height // h, width // w
    x, y, columns, rows = cv2.boundingRect((mask > 0).view(np.uint8))
    # With a pixel around, which has a share in what lies on the edge.
    top, left = max(0, y - 1), max(0, x - 1)
    inside = mask[top : y + rows + 1, left : x + columns + 1]
    rows, columns = inside.shape[0] * down, inside.shape[1] * across
    top, left = top * down, left * across
    return np.s_[top : top + rows, left : left + columns], resized(inside, (rows, columns))


def strongest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest of (N, h, w) maps at each pixel, and which one it is (int64; of equals the
    first)."""
    if maps.device.type != "cpu":
        return maps.max(0)
    first, *others = maps.numpy()
    best, which = first.copy(), np.zeros(first.shape, np.uint8 if len(maps) <= 256 else np.int16)
    greater, there = np.empty(first.shape, bool), np.empty_like(which)
    for i, map_ in enumerate(others, start=1):
        np.greater(map_, best, out=greater)
        np.maximum(map_, best, out=best)
        np.multiply(greater, which.dtype.type(i), out=there)
        np.maximum(which, there, out=which)
    return torch.from_numpy(best), torch.from_numpy(which).long()


def _votes(classes: Tensor, owner: Tensor, objects: int, count: int) -> Tensor:
    """(objects, count) share of each class among an object's pixels."""
    inside = owner >= 0
    pairs = owner[inside] * count + classes[inside]
    votes = torch.bincount(pairs, minlength=objects * count).view(objects, count).float()
    return votes / votes.sum(1, keepdim=True).clamp(min=1)


def _exp_(maps: Tensor) -> Tensor:
    """The exponential of (N, h, w) maps, in their place."""
    if maps.device.type != "cpu":
        return maps.exp_()
    flat = maps.view(-1, maps.shape[-1]).numpy()
    cv2.exp(flat, dst=flat)
    return maps
