"""Pieces of a mask that are too small to be of the thing, and holes too small to see through it.

Upstream tidies masks likewise (`fill_holes_in_mask_scores`), by a number of pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.semantics.regions import areas_of

CRUMB = 0.1
"""Of the area of the largest piece; smaller pieces go."""

PINHOLE = 0.02
"""Of the area of the largest piece; smaller holes are filled."""

CHANGED = 1.0
"""Logit of what is filled, and of what goes below 0."""


def without_crumbs(logits: Tensor) -> Tensor:
    """(B, h, w) logits of masks, without crumbs and with pinholes filled."""
    tidy = logits.clone()
    for map_, mask in zip(tidy, (logits > 0).cpu().numpy(), strict=True):
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        there = np.s_[y : y + height, x : x + width]
        _tidy(map_[there], mask[there])
    return tidy


def _tidy(logits: Tensor, mask: npt.NDArray[np.bool_]) -> None:
    """As above, in place, of the part of an image that a mask is in; both (h, w)."""
    framed = np.pad(mask, 1)  # so that what is around it is one piece
    pieces, holes = _numbered(framed, connectivity=8), _numbered(~framed, connectivity=4)
    areas, openings = areas_of(pieces), areas_of(holes)
    for numbers, sizes, share, logit in (
        (pieces, areas, CRUMB, -CHANGED),
        (holes, openings, PINHOLE, CHANGED),
    ):
        small = (sizes > 0) & (sizes < share * areas.max())
        if small.any():
            logits[torch.from_numpy(small[numbers][1:-1, 1:-1])] = logit


def _numbered(mask: npt.NDArray[np.bool_], connectivity: int) -> npt.NDArray[np.int32]:
    """The number of the connected piece at each pixel of an (h, w) mask; 0 outside."""
    numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)[1]
    return np.asarray(numbers, np.int32)
