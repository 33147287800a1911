"""Discovery of things of no known class: what moves by itself, completed by what looks like it.

Evidence of motion is at edges and texture. A linear model of the frame's keys and colours, fitted
on the spot, tells what moves from what does not, and fills in the rest.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.affinity.keys import plain_keys
from sam2vss_ros.affinity.memory import COARSE
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2.discovery import Candidates, RegionSource, View
from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.stream.movers import MOVES, Moving

Array = npt.NDArray[np.float32]

CLEAR = 6.0
"""How much more evidence of motion an object has than what is around it."""

MOST_MOVING = 0.3
"""Where more of the image moves by itself than this, the camera's motion is not understood."""

SURELY_STUFF = 0.75
"""Mean probability of a class that is not countable, from which a region is no thing: houses and
trees seem to move where the camera goes sideways, and road where images are far apart. Those had
0.83 and more, what moved by itself on streets and on DAVIS 0.65 at most."""

LEAST_AREA = 0.005
"""Of what moves by itself, as a share of the image; `min_area` may ask for more."""

NEAR, NEAR_MOTION = 0.05, 0.1
"""Share of the image's width around a pixel, and of what moves there, for it to belong to that."""

TEXTURE = 64.0
"""Gradient (Sobel, L of 255) from which a pixel would show that it moves; others are half known."""

PLAIN = 0.3
"""What a pixel without texture counts, as one that does not move."""

COLOURS = 0.5
"""Weight of colours beside keys of length 1."""


class ObjectSource:
    """What moves by itself, and things of known countable classes, each of them once.

    things, stuff: (K,) bool, which classes are countable, and which are not; None: all others.

    Where known things make up most of what moves, they are the objects; where they are parts of it,
    the whole is.
    """

    def __init__(
        self, things: npt.NDArray[np.bool_], stuff: npt.NDArray[np.bool_] | None = None
    ) -> None:
        self._known = RegionSource(things, stuff=False)
        self._stuff = torch.from_numpy(~things if stuff is None else stuff)

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        """As `discovery.Source.propose`. At a time, known things take half of the places at most:
        a dense prediction of a place that it was not made for sees many."""
        known = self._known.propose(view, unexplained, config)
        least = config.min_area * unexplained.numel()
        fits = (known.masks.flatten(1).sum(1) >= least).nonzero()[:, 0][: config.max_objects // 2]
        known = Candidates(known.masks[fits], known.score[fits])
        if view.moving is None:
            return known
        keys = plain_keys(view.features.pyramid, COARSE.stride)[0].cpu().numpy()
        size = (unexplained.shape[0], unexplained.shape[1])
        masks, clear = moving_regions(keys, view.moving, size, max(config.min_area, LEAST_AREA))
        of_stuff = view.probabilities * self._stuff.to(view.probabilities.device)[:, None, None]
        stuff = of_stuff.amax(0).cpu().numpy()  # all 0 where no class is
        believed = np.array([stuff[mask].mean() < SURELY_STUFF for mask in masks], bool)
        new = Candidates(
            torch.from_numpy(masks[believed]).to(unexplained.device),
            torch.from_numpy(clear[believed] / (clear[believed] + CLEAR)).to(known.score),
        )
        return _joined(new, known)


def _joined(new: Candidates, known: Candidates) -> Candidates:
    """What moves, but for what is mostly known things, and those that are no parts of it."""
    whole = new.masks & known.masks.any(0)
    unknown = whole.flatten(1).sum(1) * 2 < new.masks.flatten(1).sum(1)
    new = Candidates(new.masks[unknown], new.score[unknown])
    parts = known.masks & new.masks.any(0)
    apart = parts.flatten(1).sum(1) * 2 <= known.masks.flatten(1).sum(1)
    return Candidates(
        torch.cat([new.masks, known.masks[apart]]), torch.cat([new.score, known.score[apart]])
    )


def moving_regions(
    keys: Array, moving: Moving, shape: tuple[int, int], least_area: float
) -> tuple[npt.NDArray[np.bool_], Array]:
    """(N, H, W) bool masks of the things that move by themselves, clearest first, and the evidence
    for each, (N,).

    keys: (h, w, C). shape: height and width of the masks. least_area: of one, as a share of the
    image.
    """
    masks: list[npt.NDArray[np.bool_]] = []
    clear: list[float] = []
    size = (shape[1], shape[0])
    evidence = cv2.resize(moving.evidence, size, interpolation=cv2.INTER_LINEAR)
    moves = evidence > MOVES
    if least_area <= moves.mean() <= MOST_MOVING:
        inside = cv2.resize(alike(keys, moving), size, interpolation=cv2.INTER_LINEAR) > 0
        amount = cv2.GaussianBlur(moves.astype(np.float32), (0, 0), NEAR * size[0])
        regions = connected_regions(np.zeros(shape, np.uint8), inside & (amount > NEAR_MOTION))
        areas = areas_of(regions) / regions.size
        for number in ((areas >= least_area) & (areas <= MOST_MOVING)).nonzero()[0]:
            mask = regions == number
            if _spans(mask):
                continue
            wider = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            contrast = evidence[mask].mean() - max(0.0, evidence[wider & ~mask].mean())
            if contrast >= CLEAR:
                masks.append(mask)
                clear.append(contrast)
    order = np.argsort(clear)[::-1]
    found = np.stack([masks[i] for i in order]) if masks else np.zeros((0, *shape), bool)
    return found, np.array([clear[i] for i in order], np.float32)


def _spans(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether it goes from the left of the image to the right, as near ground does, which moves
    otherwise than what is behind it; a thing seldom does."""
    return bool(mask[:, 0].any() and mask[:, -1].any())


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
