"""Objects in video whose labels know classes only: things that can be followed without doubt.

Labelled video (`images/*.jpg` and `labels/*.png`, every frame labelled with CamVid's class ids)
does not say which car is which. A tube is a connected region of a thing, and on each further frame
the one region of its class that the optical flow leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.bench.clips import Clip, Ids, pair_files
from sam2vss_ros.bench.flow import BackwardFlow, Places, moved
from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.confusion import pair_counts
from sam2vss_ros.io.image_files import read_image
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.semantics.regions import areas_of, connected_regions

CLASSES = {6: "SignSymbol", 8: "Car", 9: "Pedestrian", 10: "Bicyclist"}
"""CamVid's things but poles, which run into each other."""

FRAMES = 16
"""Frames of a tube: the first and 15 on which it is followed."""

EVERY = 8
"""Frames from where tubes begin to where the next do."""

LEAST_AREA = 80
"""Pixels of the smallest region."""

SAME_IOU = 0.45
"""Least IoU of a region, carried on by the flow, with what it is on the next frame."""

SAME_AREA = (0.6, 1.65)
"""Bounds of its area there as a multiple of that before."""


class Regions(NamedTuple):
    """The regions of things in a label image. numbers: (H, W) int32, from 1 on, 0 elsewhere.

    classes, areas: (count + 1,), class id and pixels of each; of 0 they say nothing.
    """

    numbers: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]


def read_tubes(folder: Path) -> list[Clip]:
    """The tubes of labelled video; those that begin on the same frame are one clip.

    Raises InputError for images without labels, labels of another size, and where there is no tube.
    """
    images, labels = pair_files(folder / "images", folder / "labels")
    links = list(_links(images, labels))
    clips = []
    for start in range(0, len(images) - FRAMES + 1, EVERY):
        part = slice(start, start + FRAMES)
        regions = find_regions(labels[start])
        walks = (_walk(i, links[start : part.stop - 1]) for i in range(1, len(regions.areas)))
        tubes = [tube for tube in walks if len(tube) == FRAMES]
        if tubes:
            name = images[start].stem
            kinds = [CLASSES[int(regions.classes[tube[0]])] for tube in tubes]
            objects = [f"{name}/{kind}{kinds[:i].count(kind) + 1}" for i, kind in enumerate(kinds)]
            ids = np.array(tubes).T
            clips.append(Clip(name, images[part], labels[part], objects, _numbers, ids))
    if not clips:
        raise InputError(
            f"data: nothing in {folder} ({', '.join(CLASSES.values())}) can be followed over "
            f"{FRAMES} frames by its labels, which hold CamVid's class ids"
        )
    return clips


def find_regions(labels: Path) -> Regions:
    """The regions of things in a label image, but the small ones. Raises InputError."""
    classes = read_labels(labels)
    numbers = connected_regions(classes, np.isin(classes, list(CLASSES)), connectivity=8)
    large = areas_of(numbers) >= LEAST_AREA
    numbers = np.where(large, large.cumsum(), 0).astype(np.int32)[numbers]
    class_of = np.zeros(large.sum() + 1, np.int64)
    class_of[numbers] = classes
    return Regions(numbers, class_of, areas_of(numbers))


def _numbers(labels: Path) -> Ids:
    return find_regions(labels).numbers


def _links(images: Sequence[Path], labels: Sequence[Path]) -> Iterator[dict[int, int]]:
    """For each pair of successive frames: region -> the same thing's region on the second one."""
    flow, last = BackwardFlow(), None
    for image, file in zip(images, labels, strict=True):
        places, regions = flow.step(read_image(image)), find_regions(file)
        if last is not None and places is not None:
            yield _link(last, regions, places)
        last = regions


def _link(before: Regions, now: Regions, places: Places) -> dict[int, int]:
    """Join what the flow lays on one another, where class and area agree and nothing else fits."""
    carried = moved(before.numbers.astype(np.float32), places, cv2.INTER_NEAREST)
    shape = len(before.areas), len(now.areas)
    both = pair_counts(carried.astype(np.uint32), now.numbers.astype(np.uint32), shape)
    iou = both / np.maximum(both.sum(1)[:, None] + both.sum(0) - both, 1)
    iou[before.classes[:, None] != now.classes] = 0
    growth = now.areas / np.maximum(before.areas, 1)[:, None]
    fits = (iou >= SAME_IOU) & (growth > SAME_AREA[0]) & (growth < SAME_AREA[1])
    fits[0] = fits[:, 0] = False
    fits &= iou == iou.max(1, keepdims=True)
    return {i: j for i, j in np.argwhere(fits).tolist() if fits[:, j].sum() == 1}


def _walk(region: int, links: Sequence[Mapping[int, int]]) -> list[int]:
    """A region and what it is on the following frames, for as long as it can be followed."""
    tube = [region]
    for link in links:
        if tube[-1] not in link:
            break
        tube.append(link[tube[-1]])
    return tube
