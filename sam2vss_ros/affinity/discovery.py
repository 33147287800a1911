"""Discovery of things of no known class: what moves by itself, completed by what looks like it.

Evidence of motion is at edges and texture. A linear model of the frame's keys and colours, fitted on
the spot, tells what moves from what does not, and fills in the rest.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.affinity.memory import COARSE, frame_keys
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2.discovery import Candidates, RegionSource
from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.stream.movers import MOVES, Moving

Array = npt.NDArray[np.float32]

CLEAR = 8.0
"""How much more evidence of motion an object has than what is around it."""

LARGEST = 0.3
"""Share of the image beyond which a moving region is no object: the camera's motion is not known."""

NEAR, NEAR_MOTION = 0.05, 0.1
"""Share of the image's width around a pixel, and of what moves there, for it to belong to that."""

TEXTURE = 64.0
"""Gradient (Sobel, L of 255) from which a pixel would show that it moves; others are half known."""

PLAIN = 0.3
"""What a pixel without texture counts, as one that does not move."""

COLOURS = 0.5
"""Weight of colours beside keys of length 1."""


class ObjectSource:
    """Things of known countable classes first, then what else moves by itself."""

    def __init__(self, things: npt.NDArray[np.bool_]) -> None:
        self._known = RegionSource(things, stuff=False)

    def propose(
        self,
        features: Any,
        probabilities: Tensor,
        unexplained: Tensor,
        config: PipelineConfig,
        moving: Moving | None = None,
    ) -> Candidates:
        """As `discovery.Source.propose`."""
        known = self._known.propose(features, probabilities, unexplained, config)
        if moving is None or not (moving.evidence > MOVES).any():
            return known
        free = unexplained & ~known.masks.any(0)
        keys = frame_keys(features.pyramid, COARSE).cpu().numpy()
        masks, evidence = moving_regions(keys, moving, free.cpu().numpy(), config.min_area)
        score = torch.from_numpy(evidence / (evidence + CLEAR)).to(known.score)
        new = torch.from_numpy(masks).to(free.device)
        return Candidates(torch.cat([known.masks, new]), torch.cat([known.score, score]))


def moving_regions(
    keys: Array, moving: Moving, free: npt.NDArray[np.bool_], min_area: float
) -> tuple[npt.NDArray[np.bool_], Array]:
    """(N, H, W) bool masks of the things that move by themselves, clearest first, and the evidence
    for each, (N,).

    keys: (h, w, C) of length 1. free: (H, W) bool, where they may be. min_area: of one, as a share
    of the image.
    """
    size = (free.shape[1], free.shape[0])
    evidence = cv2.resize(moving.evidence, size, interpolation=cv2.INTER_LINEAR)
    inside = cv2.resize(alike(keys, moving), size, interpolation=cv2.INTER_LINEAR) > 0
    spread = NEAR * size[0]
    amount = cv2.GaussianBlur((evidence > MOVES).astype(np.float32), (0, 0), spread)
    regions = connected_regions(np.zeros(free.shape, np.uint8), inside & (amount > NEAR_MOTION) & free)
    masks, clear = [], []
    areas = areas_of(regions) / regions.size
    for number in ((areas >= min_area) & (areas <= LARGEST)).nonzero()[0]:
        mask = regions == number
        around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
        contrast = evidence[mask].mean() - max(0.0, evidence[around].mean())
        if contrast >= CLEAR:
            masks.append(mask)
            clear.append(contrast)
    order = np.argsort(clear)[::-1]
    found = np.stack(masks)[order] if masks else np.zeros((0, *free.shape), bool)
    return found, np.array(clear, np.float32)[order]


def alike(keys: Array, moving: Moving) -> Array:
    """How much each pixel of `moving`, (h, w), looks like what moves (above 0) or like the rest.

    keys: (h, w, C) on any grid.
    """
    coarse = (keys.shape[1], keys.shape[0])
    motion = cv2.resize(
        np.clip(moving.evidence / (2 * MOVES), 0, 1), coarse, interpolation=cv2.INTER_AREA
    )
    texture = cv2.resize(_texture(moving.lab), coarse, interpolation=cv2.INTER_AREA)
    moves = motion > 0.5
    weights = np.where(moves, motion, (1 - motion) * (PLAIN + (1 - PLAIN) * texture)).ravel()
    lab = moving.lab - moving.lab.mean((0, 1))
    small = cv2.resize(lab, coarse, interpolation=cv2.INTER_AREA)
    looks = np.concatenate([keys, _colours(small), np.ones_like(keys[..., :1])], -1)
    looks = looks.reshape(-1, looks.shape[-1])
    weighted = looks * weights[:, None]
    left = weighted.T @ looks + np.eye(looks.shape[1], dtype=np.float32)
    model = np.linalg.solve(left, weighted.T @ np.where(moves.ravel(), 1, -1)).astype(np.float32)
    channels = keys.shape[-1]
    fine = (moving.lab.shape[1], moving.lab.shape[0])
    by_key = cv2.resize(keys @ model[:channels], fine, interpolation=cv2.INTER_LINEAR)
    out: Array = by_key + _colours(lab) @ model[channels:-1] + model[-1]
    return out


def _colours(lab: Array) -> Array:
    """(h, w, 9): colours, their squares and products, as small as keys are."""
    colour = lab / 60
    products = colour[..., [0, 0, 1]] * colour[..., [1, 2, 2]]
    return COLOURS * np.concatenate([colour, colour * colour, products], -1)


def _texture(lab: Array) -> Array:
    """(h, w) from 0 to 1: whether motion would be seen."""
    light = np.ascontiguousarray(lab[..., 0])
    slope = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))
    out: Array = np.clip(cv2.GaussianBlur(slope, (0, 0), 1.5) / TEXTURE, 0, 1)
    return out
