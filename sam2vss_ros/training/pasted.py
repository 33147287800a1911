"""Pictures of things to point at: labelled stills, and things pasted into stills and other frames.

Cut from other stills or of a random shape, filled with pieces of other pictures, pasted things have
outlines that are known to the pixel, on backgrounds that need no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.training.data import VOID_LABEL, LabelledStill, change_colours
from sam2vss_ros.training.procedural import make_clip

DRAWN = 0.12
"""Share of pictures that are drawn from scratch."""

CUTOUTS = 0.65
"""Share of pasted things that are cut from stills; the others are random shapes."""

CUTOUT_AREA = 500
"""Pixels of the smallest thing that is cut out."""

PASTED_AREA = (0.002, 0.22)
"""Bounds of the area of a pasted thing as a share of the picture."""

FRAMES_PER_VIDEO = 25
MOST_STEP = 2
"""Frames of a video from one that is shown to the next."""

FRAME_SIDE = 640
"""Pixels of the longer side of a video's frame."""

REGIONS = 40
"""Regions of a still that are known, the largest."""

Rgb = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int32]
Affine = npt.NDArray[np.float64]
"""(2, 3), from places (x, y) of one picture to those of another."""


class Cutout(NamedTuple):
    """image: (h, w, 3) uint8 RGB. mask: (h, w) uint8, 1 where the thing is."""

    image: Rgb
    mask: npt.NDArray[np.uint8]


class Scene(NamedTuple):
    """image: (H, W, 3) uint8 RGB. ids: (H, W) int32, the region of each pixel, 0 for none.

    things, stuff: ids to point at.
    """

    image: Rgb
    ids: Ids
    things: list[int]
    stuff: list[int]


@dataclass(frozen=True)
class Pictures:
    """Labelled stills, the things to be cut out of them, and unlabelled frames.

    things: class indices that are things. videos: files of which `frames` are.
    """

    stills: list[LabelledStill]
    things: tuple[int, ...]
    cutouts: list[Cutout]
    frames: list[Rgb]
    videos: tuple[Path, ...] = ()

    @staticmethod
    def collect(
        stills: list[LabelledStill], catalog: ClassCatalog, videos: Path | None
    ) -> Pictures:
        """From stills, and a folder of video files. Raises InputError for a file that is none."""
        things = tuple(np.flatnonzero(catalog.things).tolist())
        cutouts = [c for still in stills for c in _cut_out(still, things)]
        files = [] if videos is None else sorted(videos.glob("*.mp4"))
        frames = [frame for file in files for frame in _some_frames(file)]
        return Pictures(stills, things, cutouts, frames, tuple(files))

    def footage(self, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> list[Rgb]:
        """Consecutive frames of a video, or every second one of it, forwards or backwards, a random
        part of each of `size` (height, width). A short video has fewer. There must be a video.
        """
        source = open_frames(self.videos[rng.integers(len(self.videos))])
        step = int(rng.integers(1, MOST_STEP + 1))
        first = int(rng.integers(max(1, (source.count or 0) - frames * step + 1)))
        taken = islice(source.read(), first, first + frames * step, step)
        part: Affine | None = None
        shown = []
        for image in taken:
            small = _bounded(image)
            part = _part(small.shape, size, rng) if part is None else part
            shown.append(warped(small, part, size))
        return shown if rng.random() < 0.5 else shown[::-1]

    def scene(self, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
        """A random picture of `size` (height, width)."""
        if rng.random() < DRAWN:
            clip = make_clip(int(rng.integers(2**62)), 1, size, kind="abstract")
            ids = clip.instances[0].astype(np.int32)
            return Scene(clip.frames[0], ids, list(range(1, int(ids.max()) + 1)), [])
        image, ids, things, stuff = self.background(rng, size)
        for _ in range(int(rng.integers(0 if things else 1, 4))):
            new = int(ids.max()) + 1
            image = self._paste(rng, image, ids, new)
            things += [new, new]  # pointed at twice as often as what was there
        return Scene(image, ids, things, stuff)

    def background(self, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
        """A random part of a still or a frame; regions are known of stills alone."""
        image, labels = self._background(rng, size)
        image = change_colours(image, rng)
        if labels is None:
            return Scene(image, np.zeros(size, np.int32), [], [])
        return Scene(image, *self._regions(labels))

    def _background(
        self, rng: np.random.Generator, size: tuple[int, int]
    ) -> tuple[Rgb, npt.NDArray[np.uint8] | None]:
        """A random part of a still with its labels, or of a frame."""
        if self.frames and rng.random() < 0.5:
            frame = self.frames[rng.integers(len(self.frames))]
            matrix = _part(frame.shape, size, rng)
            return warped(frame, matrix, size), None
        still = self.stills[rng.integers(len(self.stills))]
        matrix = _part(still.image.shape, size, rng)
        labels = cv2.warpAffine(
            still.labels, matrix, size[::-1], flags=cv2.INTER_NEAREST, borderValue=VOID_LABEL
        )
        return warped(still.image, matrix, size), np.asarray(labels, np.uint8)

    def _regions(self, labels: npt.NDArray[np.uint8]) -> tuple[Ids, list[int], list[int]]:
        regions = connected_regions(labels, labels != VOID_LABEL)
        areas = areas_of(regions)
        kept = np.argsort(-areas)[:REGIONS]
        kept = kept[areas[kept] > 0]
        ids = np.zeros(len(areas), np.int32)
        ids[kept] = np.arange(1, len(kept) + 1)
        things: list[int] = []
        stuff: list[int] = []
        for number in kept:
            is_thing = labels[regions == number][0] in self.things
            (things if is_thing else stuff).append(int(ids[number]))
        return ids[regions], things, stuff

    def _paste(self, rng: np.random.Generator, image: Rgb, ids: Ids, new: int) -> Rgb:
        """The picture with a thing more, which is marked in `ids`."""
        thing = self.thing(rng)
        return paste(image, ids, new, thing, placed(rng, thing, image.shape), rng.uniform(1, 2))

    def thing(self, rng: np.random.Generator) -> Cutout:
        """A random thing to paste, in random colours."""
        cutout = self._thing(rng)
        return Cutout(change_colours(cutout.image, rng), cutout.mask)

    def _thing(self, rng: np.random.Generator) -> Cutout:
        if self.cutouts and rng.random() < CUTOUTS:
            return self.cutouts[rng.integers(len(self.cutouts))]
        side, knots = int(rng.integers(96, 200)), int(rng.integers(3, 8))
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]  # type: ignore[misc]
        dents = cv2.resize(
            rng.normal(0, 0.25, (knots, knots)).astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        mask = _largest_part(np.hypot(x, y) < 0.62 + dents)
        image, _ = self._background(rng, (side, side))
        if rng.random() < 0.4:  # a thing of two parts
            other, _ = self._background(rng, (side, side))
            angle = rng.uniform(0, 2 * np.pi)
            there = x * np.cos(angle) + y * np.sin(angle) > rng.uniform(-0.3, 0.3)
            image = np.where(there[..., None], other, image)
        return Cutout(image, mask.astype(np.uint8))


def placed(rng: np.random.Generator, thing: Cutout, shape: tuple[int, ...]) -> Affine:
    """Where a thing may come to lie in a picture of (height, width, ...)."""
    height, width = shape[:2]
    h, w = thing.mask.shape
    area = np.exp(rng.uniform(*np.log(PASTED_AREA))) * height * width
    scale = min(np.sqrt(area / thing.mask.sum()), 0.95 * height / h, 0.95 * width / w, 5.0)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.normal(0, 12), scale)
    matrix[0] *= np.exp(rng.normal(0, 0.12))
    if rng.random() < 0.5:
        matrix[:, 2] += matrix[:, 0] * w
        matrix[:, 0] *= -1
    place = np.clip(rng.normal(0.5, 0.2, 2), 0.05, 0.95) * (width, height)
    matrix[:, 2] += place - matrix @ (w / 2, h / 2, 1)
    return np.asarray(matrix)


def paste(
    image: Rgb, ids: Ids, new: int, thing: Cutout, matrix: Affine, hardness: float = 1.5
) -> Rgb:
    """The picture with a thing more, which is marked in `ids` as `new`.

    hardness: of its edge, 1 to 2.
    """
    height, width = ids.shape
    scale = abs(np.linalg.det(matrix[:, :2])) ** 0.5
    look = thing.image
    if scale < 0.7:
        look = np.asarray(cv2.GaussianBlur(look, (0, 0), 0.45 / scale), np.uint8)
    soft = cv2.warpAffine(thing.mask.astype(np.float32), matrix, (width, height))
    soft = np.clip((cv2.GaussianBlur(soft, (0, 0), 0.8) - 0.5) * hardness + 0.45, 0, 1)[..., None]
    ids[soft[..., 0] >= 0.5] = new
    return (warped(look, matrix, (height, width)) * soft + image * (1 - soft)).astype(np.uint8)


def _cut_out(still: LabelledStill, things: tuple[int, ...]) -> list[Cutout]:
    """The things of a still that its edges do not cut."""
    regions = connected_regions(still.labels, np.isin(still.labels, things), connectivity=8)
    cutouts = []
    for number in np.flatnonzero(areas_of(regions) >= CUTOUT_AREA):
        mask = (regions == number).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        if x > 1 and y > 1 and x + w < mask.shape[1] - 1 and y + h < mask.shape[0] - 1:
            part = slice(y, y + h), slice(x, x + w)
            cutouts.append(Cutout(still.image[part].copy(), mask[part].copy()))
    return cutouts


def _some_frames(video: Path) -> list[Rgb]:
    source = open_frames(video)
    every = max(1, source.count // FRAMES_PER_VIDEO)
    frames = []
    for i, image in enumerate(source.read()):
        if i % every == 0:
            frames.append(_bounded(image))
    return frames


def _bounded(image: Rgb) -> Rgb:
    """An image whose longer side is FRAME_SIDE at the most."""
    scale = min(1.0, FRAME_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _part(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> Affine:
    """The affine map of a random part of a picture, a third of its side and up, perhaps mirrored,
    to `size` (height, width)."""
    height, width = size
    aspect = width / height * np.exp(rng.normal(0, 0.1))
    w = min(shape[1], shape[0] * aspect) * rng.uniform(0.35, 1)
    h = min(shape[0], w / aspect)
    x, y = rng.uniform(0, shape[1] - w), rng.uniform(0, shape[0] - h)
    matrix = np.array([[width / w, 0, -x * width / w], [0, height / h, -y * height / h]])
    if rng.random() < 0.5:
        matrix[0] = [-matrix[0, 0], 0, width - 1 - matrix[0, 2]]
    return matrix


def warped(image: Rgb, matrix: Affine, size: tuple[int, int]) -> Rgb:
    """An image mapped by an affine matrix to `size` (height, width), mirrored at its edges."""
    return np.asarray(
        cv2.warpAffine(
            image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ),
        np.uint8,
    )


def _largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return np.asarray(parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())
