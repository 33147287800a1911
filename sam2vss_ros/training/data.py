"""Training material: labelled stills from a folder, changes of them, and streams of batches."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sam2vss_ros.errors import InputError, few
from sam2vss_ros.io.image_files import read_image
from sam2vss_ros.io.image_folders import images_by_stem, join, natural_order
from sam2vss_ros.io.label_files import LabelReader, LabelRules
from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog
from sam2vss_ros.semantics.regions import areas_of, connected_regions

VOID = -1
"""Training's class index of pixels that are not learned from."""

VOID_LABEL, UNKNOWN = 255, -1
"""What stands for void in a still's labels, and for an id that is none of the catalog's."""

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
