"""Masks as a tracker has them, good and bad ones, drawn from labels."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.training.data import label_regions

MASKS_PER_VIEW = 12
LEAST_REGION = 4
"""Pixels, at a quarter of the resolution, of the least region that makes a mask."""


def sample_masks(
    labels: np.ndarray, classes: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Masks such as a tracker has, good and bad ones, on an (S, S) uint8 map of class indices.

    Returns (R, S/4, S/4) bool masks and (R, classes) shares of the classes inside each. Rare
    classes are drawn as often as frequent ones.
    """
    quarter, regions = labels[2::4, 2::4], label_regions(labels)[2::4, 2::4]
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    ids = np.flatnonzero(areas >= LEAST_REGION)
    masks, shares = [], []
    if len(ids):
        first = [int(np.argmax(regions == k)) for k in ids]
        _, kind, count = np.unique(quarter.ravel()[first], return_inverse=True, return_counts=True)
        chance = 1 / count[kind]
        size = min(len(ids), MASKS_PER_VIEW)
        for k in rng.choice(ids, size, replace=False, p=chance / chance.sum()):
            mask = _as_tracked((regions == k).astype(np.uint8), regions, ids, rng) > 0
            inside = quarter[mask]
            counts = np.bincount(inside[inside != 255], minlength=classes)
            if counts.sum() >= LEAST_REGION:
                masks.append(mask)
                shares.append(counts / counts.sum())
    side = regions.shape[0]
    return (
        torch.from_numpy(np.stack(masks) if masks else np.zeros((0, side, side), bool)),
        torch.tensor(np.array(shares).reshape(len(masks), classes), dtype=torch.float32),
    )


def _as_tracked(
    mask: np.ndarray, regions: np.ndarray, ids: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What a tracker makes of a region: grown, shrunk, shifted, cut, drifted, or with another."""
    kind = rng.integers(7)
    kernel = np.ones((3, 3), np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    if kind == 0:
        return np.asarray(cv2.dilate(mask, kernel))
    if kind == 1:
        changed = np.asarray(cv2.erode(mask, kernel))
    elif kind == 2:
        changed = np.roll(mask, rng.integers(-1, 2, 2), (0, 1))
    elif kind == 3:
        changed = mask.copy()
        if rng.random() < 0.5:
            changed[:, x + (w + 1) // 2 :] = 0
        else:
            changed[y + (h + 1) // 2 :] = 0
    elif kind == 4:
        shift = rng.normal(0, 0.2, 2) * (w, h)
        moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        changed = cv2.warpAffine(mask, moved, mask.shape[::-1], flags=cv2.INTER_NEAREST)
    elif kind == 5:
        changed = mask | (regions == rng.choice(ids)).astype(np.uint8)
    else:
        return mask
    return changed if changed.any() else mask
