"""What is decided between a tracker's step and its memory: whose a pixel is, what is remembered.

Memory is selected online and in constant memory: what is not worth remembering is not written, and
the older memories stay, as in SAMURAI (arXiv 2411.11922) and DAM4SAM (arXiv 2411.17576).
"""

from __future__ import annotations

import dataclasses

import torch

from sam2vss_ros.sam2.tracker import Tracked

LEAST_IOU = 0.5
"""Predicted IoU below which a mask is not remembered."""


def resolve_overlaps(tracked: Tracked) -> Tracked:
    """Leave every pixel to the strongest of the objects that claim it.

    Upstream's `_apply_non_overlapping_constraints`, but there a loser gets -10 or less. Here it
    gets at most the winner's negated logit, so that both masks end at the same line when they are
    upsampled: no gap opens between neighbours.
    """
    if not tracked.slots:
        return tracked
    masks = tracked.masks
    best = masks.amax(0)
    # Ones and zeros in place of truth values, which take a CPU several times as long.
    rank = torch.eq(masks, best, out=torch.empty_like(masks))  # of equals the first is the owner
    rank *= torch.arange(len(masks), 0, -1, device=masks.device)[:, None, None]
    owned = torch.eq(rank, rank.amax(0), out=rank)
    lost = torch.minimum(masks, torch.where(best > 0, -best, torch.inf))
    return dataclasses.replace(tracked, masks=lost.lerp_(masks, owned))


def worth_remembering(tracked: Tracked) -> list[int]:
    """Positions of the objects that are there, own a pixel and have a trustworthy mask.

    SAM 2 itself remembers every frame, also those on which an object is absent or mistaken.
    """
    there = (tracked.score > 0) & (tracked.masks.flatten(1).amax(1) > 0)
    good = (there & (tracked.predicted_iou >= LEAST_IOU)).tolist()
    return [i for i, worth in enumerate(good) if worth]
