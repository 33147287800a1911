"""Random views of labelled images, for a network that is to know streets it has never seen.

Zoomed, turned, flipped and relit, with small objects of one image pasted into another ("copy and
paste" of instances, Ghiasi et al., 2021; here of whole classes). Images with rare classes come
more often.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.regions import connected_regions
from sam2vss_ros.training.data import (
    VOID,
    VOID_LABEL,
    LabelledStill,
    SeededStream,
    pixel_counts,
    recolour_classes,
)
from sam2vss_ros.training.middles import middle_targets

RARE = 0.04
"""Classes with a smaller share of the pixels are rare: they are pasted, and looked for."""

PASTED = 0.4
"""Share of the views that rare classes of another view are pasted into."""

RECOLOURED = 0.4
"""Share of the views in which classes may change their colour."""

ZOOM = (0.52, 1.81)
"""Least and largest zoom, for an image of REFERENCE_HEIGHT rows."""

REFERENCE_HEIGHT = 360

OTHERS = 10_000
"""Added to the ids of things that are pasted."""


class View(NamedTuple):
    """image: (S, S, 3) uint8 RGB. labels: (S, S) uint8 class index, VOID_LABEL for void.
    instances: (S, S) int16 ids of things, 0 for none."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.int16]


class Views(NamedTuple):
    """images: (N, 3, S, S) uint8. labels: (N, S, S) int64 class index, VOID where unknown. middles:
    (N, 4, S/4, S/4), `middle_targets`."""

    images: Tensor
    labels: Tensor
    middles: Tensor


class ViewStream(SeededStream[Views]):
    """`count` random views of `size` pixels square a step.

    Connected regions of a countable class are taken for one thing each.
    """

    def __init__(
        self,
        stills: list[LabelledStill],
        catalog: ClassCatalog,
        *,
        count: int,
        size: int,
        seed: int,
        first_step: int,
    ) -> None:
        super().__init__(seed, first_step)
        self._stills = stills
        self._count = count
        self._size = size
        things = np.flatnonzero(catalog.things)
        self._instances = [
            connected_regions(s.labels, np.isin(s.labels, things), connectivity=8).astype(np.int16)
            for s in stills
        ]
        share = pixel_counts(stills, len(catalog)) / sum(s.labels.size for s in stills)
        self._rare = np.flatnonzero(share < RARE)
        interest = np.sqrt([np.isin(s.labels[::4, ::4], self._rare).mean() for s in stills])
        chance = 0.5 / len(stills) + 0.5 * interest / max(interest.sum(), 1e-9)
        self._chance = chance / chance.sum()

    def batch(self, rng: np.random.Generator) -> Views:
        views = [self._view(rng) for _ in range(self._count)]
        labels = np.stack([v.labels for v in views]).astype(np.int64)
        labels[labels == VOID_LABEL] = VOID
        return Views(
            torch.from_numpy(np.stack([v.image for v in views])).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            torch.from_numpy(np.stack([middle_targets(v.instances) for v in views])),
        )

    def _view(self, rng: np.random.Generator) -> View:
        view = self._single(rng)
        if rng.random() < PASTED:
            other = self._single(rng)
            pasted = self._rare[rng.random(len(self._rare)) < 0.5]
            where = np.isin(other.labels, pasted)
            ids = other.instances + OTHERS * (other.instances > 0)
            view.image[where] = other.image[where]
            view.labels[where] = other.labels[where]
            view.instances[where] = ids[where]
        return view

    def _single(self, rng: np.random.Generator) -> View:
        index = rng.choice(len(self._stills), p=self._chance)
        still = self._stills[index]
        matrix = view_matrix(still.labels.shape, self._size, rng)
        size = (self._size, self._size)
        # What lies beyond the image looks like it, but is not learned from.
        image = cv2.warpAffine(
            still.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        labels, instances = (
            cv2.warpAffine(x, matrix, size, flags=cv2.INTER_NEAREST, borderValue=beyond)
            for x, beyond in ((still.labels, VOID_LABEL), (self._instances[index], 0))
        )
        image, labels = np.asarray(image, np.uint8), np.asarray(labels, np.uint8)
        if rng.random() < RECOLOURED:
            image = recolour_classes(image, labels, rng)
        return View(relit(image, rng), labels, np.asarray(instances, np.int16))


def view_matrix(
    shape: tuple[int, ...], size: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The (2, 3) affine map from an image of (H, W) to a random view of `size` pixels square."""
    height, width = shape[:2]
    zoom = np.exp(rng.uniform(*np.log(ZOOM))) * REFERENCE_HEIGHT / height
    stretch = np.exp(rng.normal(0, 0.08))
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    turn = rng.normal(0, math.radians(3))
    flip = -1 if rng.random() < 0.5 else 1
    spare_x, spare_y = width - size / zoom_x, height - size / zoom_y
    centre = (
        width / 2 + rng.uniform(-0.5, 0.5) * max(spare_x, 0.2 * width),
        height / 2 + rng.uniform(-0.5, 0.5) * max(spare_y, 0.1 * height),
    )
    linear = np.array(
        [
            [flip * zoom_x * math.cos(turn), -flip * zoom_x * math.sin(turn)],
            [zoom_y * math.sin(turn), zoom_y * math.cos(turn)],
        ]
    )
    return np.column_stack([linear, size / 2 - linear @ centre])


def relit(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Another exposure, contrast, white balance, saturation, noise and blur; (H, W, 3) RGB.

    The exposure goes to a random brightness, whatever the image's own: dusk becomes day and day
    becomes dusk.
    """
    mean = np.clip(image.mean() / 255, 0.05, 0.95)
    gamma = np.clip(np.log(rng.uniform(0.22, 0.6)) / np.log(mean), 0.5, 1.8)
    levels = np.linspace(0, 1, 256)[:, None] ** (gamma * np.exp(rng.normal(0, 0.06, 3)))
    levels = (levels - 0.4) * rng.uniform(0.75, 1.25) + 0.4
    table = np.clip(255 * levels, 0, 255).astype(np.uint8)[None]
    x = cv2.LUT(image, table).astype(np.float32)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * rng.uniform(0.4, 1.5)
    if rng.random() < 0.3:
        x += rng.standard_normal(x.shape, np.float32) * rng.uniform(2, 10)
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.3))
    return np.clip(x, 0, 255).astype(np.uint8)
