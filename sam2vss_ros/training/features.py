"""Features of a frozen SAM 2, computed once and kept on disk: what the semantics learn from.

A view is a labelled still, whole or augmented, with some masks on it. Views are made
when they are first asked for and read from then on, so that a broken run goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.training.data import VOID, LabelledStill, augmented_still, label_regions

CACHE_BYTES = 3 * 2**30
"""Bytes on the disk that augmented views may take; each still has one in any case."""

MOST_VIEWS = 8
MASKS_PER_VIEW = 12
LEAST_REGION = 4
"""Pixels, at a quarter of the resolution, of the least region that makes a mask."""


class View(NamedTuple):
    """A still as the networks see it.

    pyramid: SAM 2's (C, ., .) maps at strides 4, 8 and 16, half precision. labels: (S, S) uint8
    class index, 255 where unknown. masks: (R, S/4, S/4) bool. shares: (R, K) share of each class
    among a mask's known pixels.
    """

    pyramid: tuple[Tensor, Tensor, Tensor]
    labels: Tensor
    masks: Tensor
    shares: Tensor


class FeatureCache:
    """The views of some stills in a folder: view 0 is the whole still, the others augmented.

    `views` is how many augmented ones a still has, as many as fit into CACHE_BYTES. Raises
    FileExistsError where the folder holds the features of other stills or of another model.
    """

    def __init__(
        self,
        model: Sam2Model,
        stills: Sequence[LabelledStill],
        classes: int,
        folder: Path,
        seed: int,
    ) -> None:
        self._model, self._stills, self._classes = model, stills, classes
        self._folder, self._seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        digest, note = _digest(model, stills, classes, seed), folder / "made_for.txt"
        if note.exists() and note.read_text(encoding="utf-8") != digest:
            raise FileExistsError(
                f"{folder} holds the features of other images, another model or another seed: "
                "delete it or give another --out"
            )
        note.write_text(digest, encoding="utf-8")
        size = model.network.image_size
        with torch.inference_mode():
            pixels = torch.zeros(1, 3, size, size, device=model.device)
            pyramid = functional.encode_image(model.network, pixels).pyramid
        self.view_bytes = sum(2 * level.numel() for level in pyramid) + size * size
        fitting = CACHE_BYTES // (self.view_bytes * max(1, len(stills)))
        self.views = int(np.clip(fitting, 1, MOST_VIEWS))

    def __len__(self) -> int:
        return len(self._stills)

    def view(self, still: int, number: int) -> View:
        """View `number` of a still, 0 to `views`."""
        path = self._folder / f"{still:06d}_{number}.pt"
        if not path.exists():
            # Written aside and moved, so that an interruption leaves no half of a file.
            torch.save(self._make(still, number)._asdict(), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        return View(**torch.load(path, weights_only=True))

    @torch.inference_mode()
    def _make(self, still: int, number: int) -> View:
        network, device = self._model.network, self._model.device
        size = network.image_size
        rng = np.random.default_rng((self._seed, still, number))
        if number:
            image, index = augmented_still(self._stills[still], size, rng)
            labels = np.where(index == VOID, 255, index).astype(np.uint8)
        else:
            image, labels = self._stills[still].image, self._stills[still].labels
            labels = np.asarray(cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST))
        features = functional.encode_image(network, functional.image_tensor(image, size, device))
        masks, shares = sample_masks(labels, self._classes, rng)
        a, b, c = (level[0].half().cpu() for level in features.pyramid)
        return View((a, b, c), torch.from_numpy(labels), masks, shares)


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


def _digest(model: Sam2Model, stills: Sequence[LabelledStill], classes: int, seed: int) -> str:
    digest = hashlib.sha256(f"{model.network.image_size} {classes} {seed}".encode())
    for value in model.network.state_dict().values():
        digest.update(value.cpu().float().numpy().tobytes())
    for still in stills:
        digest.update(still.name.encode())
        digest.update(still.image.tobytes())
        digest.update(still.labels.tobytes())
    return digest.hexdigest()
