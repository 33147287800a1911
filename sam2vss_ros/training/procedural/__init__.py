"""Procedural video with ground truth: moving scenes made of numbers alone.

`make_clip` gives short clips of great variety; `street_video` a drive along a street
for as long as one likes. Both give the region of every pixel, and the same seed gives the same
pixels. Class ids are those of CamVid's 11 classes (classes/camvid.yaml).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.procedural.abstract import AbstractScene
from sam2vss_ros.training.procedural.classes import NO_CLASS
from sam2vss_ros.training.procedural.paint import Photometry
from sam2vss_ros.training.procedural.street.drive import Drive
from sam2vss_ros.training.procedural.street.scene import StreetScene

VOID = 11
"""The label of pixels without a class, as in CamVid."""

KINDS = ("street", "abstract")


@dataclass(frozen=True)
class Clip:
    """A short video with the truth about it.

    frames: (T, H, W, 3) uint8 RGB. instances: (T, H, W) uint16, the region of each pixel, the
    same id for the same region in all frames; 0 is none. Background regions
    have ids too. class_ids: (max id + 1,) int64, the CamVid class of each region, -1 where no
    class fits.
    """

    frames: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint16]
    class_ids: npt.NDArray[np.int64]


def make_clip(
    seed: int, frames: int = 4, size: tuple[int, int] = (256, 256), kind: str = "street"
) -> Clip:
    """A clip of `frames` frames of `size` (height, width); the same seed gives the same clip.

    kind: "street", or "abstract" (shapes on patches of texture). Raises ValueError for an
    unknown kind, no frames, or a size beyond 16..1024.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
    _check(frames, size)
    rng = np.random.default_rng(seed)
    scene = (StreetScene if kind == "street" else AbstractScene)(rng, frames, size)
    photometry = Photometry(rng, strength=1.0)
    pictures = np.empty((frames, *size, 3), np.uint8)
    instances = np.empty((frames, *size), np.uint16)
    for t in range(frames):
        canvas = scene.draw(t)
        pictures[t], instances[t] = photometry.apply(canvas.rgb), canvas.ids
    class_ids = np.full(max(scene.class_ids) + 1, NO_CLASS, np.int64)
    class_ids[list(scene.class_ids)] = list(scene.class_ids.values())
    return Clip(pictures, instances, class_ids)


def street_video(
    seed: int, frames: int, size: tuple[int, int] = (480, 640)
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    """A drive along a street, 30 frames a second, for as many frames as one likes.

    Yields (frame, labels, instances): (H, W, 3) uint8 RGB, (H, W) uint8 CamVid class ids with 11
    for void, and (H, W) uint16 region ids. Somebody who is hidden for a while keeps the id; the
    ids of things left behind are given again only after all 65535 have been used. Memory does not
    grow with the number of frames. Raises ValueError for no frames or a size beyond 16..1024.
    """
    _check(frames, size)
    rng = np.random.default_rng(seed)
    return _drive(Drive(rng, size), Photometry(rng, strength=0.25), frames)


def _drive(
    drive: Drive, photometry: Photometry, frames: int
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    table = np.full(1 << 16, VOID, np.uint8)
    for _ in range(frames):
        classes = dict(drive.street.classes)
        canvas = drive.next_frame()
        table[list(classes)] = [VOID if c == NO_CLASS else c for c in classes.values()]
        yield photometry.apply(canvas.rgb), table[canvas.ids], canvas.ids


def _check(frames: int, size: tuple[int, int]) -> None:
    if frames < 1 or len(size) != 2 or not all(16 <= n <= 1024 for n in size):
        raise ValueError(f"give 1 or more frames of 16..1024 pixels, not {frames} of {size}")
