"""Two views of a scene in which all that moved is known to the pixel.

The background, a still or a frame, is warped; things pasted on it move, turn, bend and change in
size by themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.training.data import SeededStream
from sam2vss_ros.training.pasted import Affine, Cutout, Ids, Pictures, Rgb, paste, placed

SIZES = ((288, 512), (384, 512), (320, 416), (384, 288))
"""Heights and widths of views."""

PAIRS = 2
"""In a step."""

MOTION = (0.3, 1.6)
"""Bounds of how much changes from view to view."""

THINGS = 4
"""Most that are pasted."""

PASTED = 1000
"""Id of the first thing that is pasted; no background has so many regions."""

NOWHERE = -1
"""Id of what the first view does not show."""


class Pair(NamedTuple):
    """Two views of one scene, the earlier first.

    images: (2, 3, H, W) uint8. ids: (2, H, W) int64, the region of each pixel, which has the same
    id in both views. motion: as in `MOTION`.
    """

    images: Tensor
    ids: Tensor
    motion: float


class PairStream(SeededStream[list[Pair]]):
    """Endless random pairs."""

    def __init__(self, pictures: Pictures, *, seed: int, first_step: int) -> None:
        super().__init__(seed, first_step)
        self._pictures = pictures

    def batch(self, rng: np.random.Generator) -> list[Pair]:
        return [make_pair(self._pictures, rng) for _ in range(PAIRS)]


def make_pair(pictures: Pictures, rng: np.random.Generator) -> Pair:
    """A random pair of a random size."""
    size = SIZES[rng.integers(len(SIZES))]
    motion = float(rng.uniform(*MOTION))
    first, first_ids = pictures.background(rng, size)[:2]
    matrix = _changed(rng, (size[1] / 2, size[0] / 2), motion, turn=8, grow=0.1, shift=14)
    second, second_ids = _bent(first, first_ids, matrix, _wobble(rng, size, 2.5 * motion))
    for new in range(PASTED, PASTED + int(rng.integers(1, THINGS + 1))):
        thing = pictures.thing(rng)
        where = placed(rng, thing, first.shape)
        first = paste(first, first_ids, new, thing, where)
        h, w = thing.mask.shape
        change = _changed(rng, where @ (w / 2, h / 2, 1), motion, turn=12, grow=0.12, shift=22)
        wobble = _wobble(rng, (h, w), 0.02 * min(h, w) * motion)
        look, mask = _bent(thing.image, thing.mask, np.eye(2, 3), wobble)
        bent = Cutout(look, (mask > 0).astype(np.uint8))
        second = paste(second, second_ids, new, bent, _after(change, where))
    second = _relit(rng, second, motion)
    images = torch.from_numpy(np.stack([first, second])).permute(0, 3, 1, 2)
    ids = torch.from_numpy(np.stack([first_ids, second_ids]).astype(np.int64))
    return Pair(images, ids, motion)


def _changed(
    rng: np.random.Generator,
    centre: npt.ArrayLike,
    motion: float,
    *,
    turn: float,
    grow: float,
    shift: float,
) -> Affine:
    """A random change of place around a centre (x, y); deviations at a motion of 1: of the angle in
    degrees, of the logarithm of the size, of the place in pixels."""
    centre = np.asarray(centre)
    matrix = cv2.getRotationMatrix2D(
        centre.tolist(), rng.normal(0, turn * motion), np.exp(rng.normal(0, grow * motion))
    )
    skew = np.eye(2)
    skew[0] += (np.exp(rng.normal(0, grow / 2 * motion)) - 1, rng.normal(0, grow / 2 * motion))
    matrix[:, :2] = matrix[:, :2] @ skew
    matrix[:, 2] = centre - matrix[:, :2] @ centre + rng.normal(0, shift * motion, 2)
    return np.asarray(matrix)


def _after(last: Affine, first: Affine) -> Affine:
    """One map after another."""
    return np.asarray(last[:, :2] @ first + np.pad(last[:, 2:], ((0, 0), (2, 0))))


def _wobble(
    rng: np.random.Generator, size: tuple[int, int], deviation: float
) -> npt.NDArray[np.float32]:
    """(h, w, 2): a smooth displacement in pixels."""
    knots = int(rng.integers(3, 7))
    few = rng.normal(0, deviation, (knots, knots, 2)).astype(np.float32)
    return np.asarray(cv2.resize(few, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _bent(
    image: Rgb, ids: npt.NDArray, matrix: Affine, wobble: npt.NDArray[np.float32]
) -> tuple[Rgb, Ids]:
    """A picture and its regions, mapped by a matrix and displaced; `NOWHERE` came into sight."""
    height, width = ids.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([x, y], -1) + wobble
    inverse = cv2.invertAffineTransform(matrix)
    source = (places @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)
    bent = cv2.remap(image, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)  # type: ignore[call-overload]
    regions = cv2.remap(  # type: ignore[call-overload]
        ids.astype(np.int16), source, None, cv2.INTER_NEAREST, borderValue=NOWHERE
    )
    return np.asarray(bent, np.uint8), np.asarray(regions, np.int32)


def _relit(rng: np.random.Generator, image: Rgb, motion: float) -> Rgb:
    """The same view in a little other light, perhaps blurred, with its own noise."""
    light = np.exp(rng.normal(0, 0.12 * motion))
    relit = image * light + rng.normal(0, 8 * motion, 3)
    relit += rng.standard_normal(image.shape, np.float32) * rng.uniform(0, 4)
    relit = np.clip(relit, 0, 255)
    if rng.random() < 0.3:
        relit = cv2.GaussianBlur(relit, (0, 0), rng.uniform(0.4, 1.3))
    return np.asarray(relit, np.uint8)
