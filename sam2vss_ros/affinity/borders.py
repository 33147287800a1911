"""The border of a mask, redrawn by the colours on its two sides (GrabCut, Rother et al. 2004)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.sam2.functional import PIXEL_MEAN, PIXEL_STD

LEAST_AREA = 0.008
"""Share of the image below which a mask has too few pixels to learn colours from."""

BAND = 0.15
"""How far the border may move, as a share of the square root of the mask's area."""

ROUNDS = 3


def redrawn(mask: Tensor, colours: Tensor, within: Tensor | None = None) -> Tensor:
    """(h, w) bool for an (h, w) bool mask; itself where it is too small.

    colours: (3, h, w) normalised image. within: (h, w) bool, what it may reach; by default a band
    around it. What lies deep in the mask stays in it.
    """
    area = int(mask.sum())
    if area < LEAST_AREA * mask.numel():
        return mask
    given = mask.cpu().numpy().astype(np.uint8)
    radius = max(3, round(BAND * area**0.5))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    reach = cv2.dilate(given, disk) if within is None else within.cpu().numpy()
    labels = np.where(given, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(given, disk) > 0] = cv2.GC_FGD
    labels[reach == 0] = cv2.GC_BGD
    if (labels % 2).all():
        return mask  # there is nothing else to tell it from
    cv2.setRNGSeed(0)  # the clusters of the colours begin at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(_rgb(colours), labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)  # type: ignore
    # Of both labels for what is inside, the lowest bit is set.
    return torch.from_numpy(labels % 2 == 1).to(mask.device)


def _rgb(colours: Tensor) -> np.ndarray:
    """(h, w, 3) uint8 of a normalised (3, h, w) image."""
    mean, std = (colours.new_tensor(v).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    pixels = ((colours * std + mean) * 255).round().clamp(0, 255)
    return np.ascontiguousarray(pixels.byte().permute(1, 2, 0).cpu().numpy())
