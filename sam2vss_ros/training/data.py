"""Training material: labelled stills from a folder, and clips of moving regions.

A clip is a short video in which every region has an id. It comes from the procedural generator or
from a labelled still that a simulated camera moves over.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.io.image_files import read_image
from sam2vss_ros.io.image_folders import images_by_stem, join, natural_order
from sam2vss_ros.io.label_files import LabelReader, LabelRules
from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog
from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.training.procedural import make_clip

VOID = -1
"""Training's class index of pixels that are not learned from."""

VOID_LABEL, UNKNOWN = 255, -1
"""What stands for void in a still's labels, and for an id that is none of the catalog's."""

MOVING_STILLS = 0.4
"""Share of clips that come from stills; the others are procedural."""

RECOLOURED = 0.3
"""Share of the classes of a still that change their colour."""

B = TypeVar("B")


@dataclass(frozen=True)
class LabelledStill:
    """image: (H, W, 3) uint8 RGB. labels: (H, W) uint8 class index, VOID_LABEL for void."""

    name: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def load_stills(
    folder: Path, catalog: ClassCatalog, rules: LabelRules | None = None
) -> list[LabelledStill]:
    """Read `folder`/images and `folder`/labels, joined by their names, in natural order.

    rules: ends of names, and the orientation of labels; what they mean says `catalog`. Raises
    InputError where a folder or a label is missing, a file cannot be read, two have one name,
    labels do not fit their image, a label id is not in the catalog, no pixel of all labels has a
    class, or the catalog has more classes than a still's labels can hold.
    """
    rules = replace(rules or LabelRules(), catalog=catalog)
    if len(catalog) > VOID_LABEL:
        raise InputError(
            f"class catalog {catalog.name}: {len(catalog)} classes, training takes {VOID_LABEL}"
        )
    files = join(
        {
            "images": images_by_stem(folder / "images", rules.image_suffix),
            "labels": images_by_stem(folder / "labels", rules.label_suffix),
        }
    )
    images, labels = files["images"], files["labels"]
    names = sorted(images, key=natural_order)
    for name in names:
        if name not in labels:
            raise InputError(f"{folder / 'labels'}: no label for {images[name].name}")
    reader, index = LabelReader(rules), _index_of_ids(catalog)
    reader.settle(labels[name] for name in names)
    stills = [_load_still(name, images[name], labels[name], reader, index) for name in names]
    if not pixel_counts(stills, len(catalog)).any():
        raise InputError(f"{folder / 'labels'}: no pixel has a class of {catalog.name}")
    return stills


def split_off(
    stills: list[LabelledStill], share: float
) -> tuple[list[LabelledStill], list[LabelledStill]]:
    """Stills to train on, and the last `share` of each recording, kept out.

    Names of one recording differ in their final digits alone. Single frames from its midst would
    be too like those that are trained on.
    """
    recordings: dict[str, list[LabelledStill]] = {}
    for still in stills:
        recordings.setdefault(re.sub(r"\d+$", "", still.name), []).append(still)
    used: list[LabelledStill] = []
    kept: list[LabelledStill] = []
    for recording in recordings.values():
        cut = len(recording) - round(share * len(recording))
        used += recording[:cut]
        kept += recording[cut:]
    return used, kept


def _index_of_ids(catalog: ClassCatalog) -> npt.NDArray[np.int16]:
    """(65536,) class index by id: VOID_LABEL of the ignored id, UNKNOWN of ids of no class."""
    index = np.full(IMAGE_ID_LIMIT, UNKNOWN, np.int16)
    index[catalog.ids] = np.arange(len(catalog))
    if catalog.ignore_id is not None:
        index[catalog.ignore_id] = VOID_LABEL
    return index


def _load_still(
    name: str, path: Path, label_path: Path, reader: LabelReader, index: npt.NDArray[np.int16]
) -> LabelledStill:
    turn = reader.turn_of(label_path, path)
    image, ids = read_image(path), reader.read(label_path, turn)
    if ids.shape != image.shape[:2]:
        (height, width), (rows, columns) = ids.shape, image.shape[:2]
        raise InputError(f"{label_path} is {width}x{height}, its image {path} is {columns}x{rows}")
    labels = index[ids]
    if (labels == UNKNOWN).any():
        unknown = few(np.unique(ids[labels == UNKNOWN]))
        raise InputError(f"{label_path}: label ids [{unknown}] are not in the class catalog")
    return LabelledStill(name, image, labels.astype(np.uint8))


def pixel_counts(stills: list[LabelledStill], classes: int) -> np.ndarray:
    """(classes,) labelled pixels of each class."""
    counts = np.zeros(classes, np.int64)
    for still in stills:
        counts += np.bincount(still.labels.ravel(), minlength=256)[:classes]
    return counts


def augmented_still(
    still: LabelledStill, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A random crop, flip and change of colour: (size, size, 3) uint8 and (size, size) index."""
    matrix = _crop_matrix(still.labels.shape, size, rng)
    image = cv2.warpAffine(still.image, matrix, (size, size), flags=cv2.INTER_AREA)
    labels = cv2.warpAffine(
        still.labels, matrix, (size, size), flags=cv2.INTER_NEAREST, borderValue=VOID_LABEL
    )
    index = labels.astype(np.int64)
    index[index == VOID_LABEL] = VOID
    image = recolour_classes(np.asarray(image, np.uint8), np.asarray(labels, np.uint8), rng)
    return change_colours(image, rng), index


def recolour_classes(
    image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Give some classes of an (S, S, 3) image another tint and soft clouds of light.

    A small data set has one sky and one asphalt; this teaches that others are as good.
    """
    out = image.astype(np.float32)
    side = image.shape[0]
    for value in np.unique(labels):
        if value != VOID_LABEL and rng.random() < RECOLOURED:
            grains = rng.normal(1, 0.2, (int(rng.integers(3, 12)),) * 2).astype(np.float32)
            light = cv2.resize(grains, (side, side), interpolation=cv2.INTER_CUBIC)
            tint = rng.uniform(0.5, 1.15, 3).astype(np.float32)
            where = labels == value
            out[where] *= tint * light[where][:, None]
    return np.clip(out, 0, 255).astype(np.uint8)


def change_colours(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Random exposure, contrast, white balance, saturation, noise and blur; any (..., 3) RGB."""
    x = image.astype(np.float32)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * rng.uniform(0.5, 1.4)
    x = (x - 110) * rng.uniform(0.7, 1.3) + 110 * rng.uniform(0.7, 1.3)
    x *= rng.uniform(0.9, 1.1, 3).astype(np.float32)
    if rng.random() < 0.3:
        x += rng.standard_normal(x.shape, np.float32) * rng.uniform(2, 10)
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.2 and out.ndim == 3:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.2)), np.uint8)
    return out


def moving_still(
    still: LabelledStill, frames: int, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A camera pans, zooms and turns over a still; its regions are the connected label regions.

    Returns (T, size, size, 3) uint8 and (T, size, size) uint8 region ids, 0 for none.
    """
    regions = label_regions(still.labels)
    start = _crop_matrix(still.labels.shape, size, rng)
    centre = (size / 2, size / 2)
    shift = rng.normal(0, 0.012 * size, 2)
    turn, zoom = rng.normal(0, 0.6), rng.normal(0, 0.012)
    pictures = np.empty((frames, size, size, 3), np.uint8)
    ids = np.empty((frames, size, size), np.uint8)
    for t in range(frames):
        move = cv2.getRotationMatrix2D(centre, turn * t, 1 + zoom * t)
        move[:, 2] += shift * t
        matrix = (np.vstack([move, (0, 0, 1)]) @ np.vstack([start, (0, 0, 1)]))[:2]
        pictures[t] = cv2.warpAffine(
            still.image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        ids[t] = cv2.warpAffine(
            regions, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
        )
    return change_colours(pictures, rng), ids


def _crop_matrix(
    shape: tuple[int, ...], size: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The affine map of a random crop (half of the image and up), perhaps flipped, to a square."""
    height, width = shape[:2]
    share = rng.uniform(0.5, 1.0)
    stretch = np.exp(rng.normal(0, 0.08))
    crop_w, crop_h = min(width, width * share * stretch), min(height, height * share / stretch)
    x, y = rng.uniform(0, width - crop_w), rng.uniform(0, height - crop_h)
    matrix = np.array(
        [[size / crop_w, 0, -x * size / crop_w], [0, size / crop_h, -y * size / crop_h]]
    )
    if rng.random() < 0.5:
        matrix[0] = [-matrix[0, 0], 0, size - 1 - matrix[0, 2]]
    return matrix


def label_regions(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Connected regions of equal label, (H, W) uint8; the largest 250, void is 0."""
    regions = connected_regions(labels, labels != VOID_LABEL)
    areas = areas_of(regions)
    keep = np.argsort(-areas)[:250]
    rank = np.zeros(len(areas), np.uint8)
    rank[keep] = np.arange(1, len(keep) + 1)
    rank[areas == 0] = 0
    return rank[regions]


class SeededStream(IterableDataset[B], Generic[B], ABC):
    """An endless stream of batches in which batch k is the same whatever came before it."""

    def __init__(self, seed: int, first_step: int) -> None:
        self._seed = seed
        self._first_step = first_step

    def __iter__(self) -> Iterator[B]:
        cv2.setNumThreads(1)
        worker = get_worker_info()
        offset, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        step = self._first_step + offset
        while True:
            yield self.batch(np.random.default_rng((self._seed, step)))
            step += stride

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> B:
        """The material of one training step."""

    def in_background(self) -> Iterator[B]:
        """The batches in order, made by another process while this one trains."""
        # Spawned, since OpenCV's and torch's threads do not survive a fork.
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
            multiprocessing_context="spawn",
        )
        return iter(loader)


class Stills(NamedTuple):
    """images: (K, 3, S, S) uint8. labels: (K, S, S) int64 class index, VOID where unknown."""

    images: Tensor
    labels: Tensor


def augmented_stills(
    stills: list[LabelledStill], count: int, size: int, rng: np.random.Generator
) -> Stills:
    """`count` stills drawn at random, each with a random crop, flip and change of colour."""
    drawn = [augmented_still(stills[rng.integers(len(stills))], size, rng) for _ in range(count)]
    return Stills(
        torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([labels for _, labels in drawn])),
    )


class Clips(NamedTuple):
    """One step's material for SAM 2.

    frames: (N, T, 3, S, S) uint8. regions: (N, T, S, S) uint8 ids. stills: labelled images of
    another size, for the class loss.
    """

    frames: Tensor
    regions: Tensor
    stills: Stills


class ClipStream(SeededStream[Clips]):
    """`clips` clips of `frames` frames of `size` pixels square, and some stills, a step."""

    def __init__(
        self,
        stills: list[LabelledStill],
        *,
        seed: int,
        first_step: int,
        clips: int,
        frames: int,
        size: int,
        still_count: int,
        still_size: int,
    ) -> None:
        super().__init__(seed, first_step)
        self._stills = stills
        self._clips = clips
        self._frames = frames
        self._size = size
        self._still_count = still_count
        self._still_size = still_size

    def batch(self, rng: np.random.Generator) -> Clips:
        clips = [self._clip(rng) for _ in range(self._clips)]
        return Clips(
            torch.from_numpy(np.stack([pictures for pictures, _ in clips])).permute(0, 1, 4, 2, 3),
            torch.from_numpy(np.stack([ids for _, ids in clips])),
            augmented_stills(self._stills, self._still_count, self._still_size, rng),
        )

    def _clip(
        self, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        if rng.random() < MOVING_STILLS:
            still = self._stills[rng.integers(len(self._stills))]
            return moving_still(still, self._frames, self._size, rng)
        clip = make_clip(int(rng.integers(2**62)), self._frames, (self._size, self._size))
        return clip.frames, clip.instances.astype(np.uint8)
