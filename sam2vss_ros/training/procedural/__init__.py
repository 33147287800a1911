"""Procedural video with ground truth: moving scenes made of numbers alone.

`make_clip` gives short clips of great variety for training; `street_video` a drive along a street
for as long as one likes. Both give the region of every pixel, and the same seed gives the same
pixels. Class ids are those of CamVid's 11 classes (classes/camvid.yaml).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.procedural.abstract import AbstractScene
from sam2vss_ros.training.procedural.paint import Look
from sam2vss_ros.training.procedural.street import NO_CLASS, StreetScene

KINDS = ("street", "abstract", "mixed")


@dataclass(frozen=True)
class Clip:
    """A short video with the truth about it.

    frames: (T, H, W, 3) uint8 RGB. instances: (T, H, W) uint16, the region of each pixel, the
    same id for the same region in all frames; 0 is none (never trained on). Background regions
    have ids too. class_ids: (max id + 1,) int64, the CamVid class of each region, -1 where no
    class fits.
    """

    frames: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint16]
    class_ids: npt.NDArray[np.int64]


def make_clip(
    seed: int, frames: int = 4, size: tuple[int, int] = (256, 256), kind: str = "mixed"
) -> Clip:
    """A clip of `frames` frames of `size` (height, width); the same seed gives the same clip.

    kind: "street", "abstract" (shapes on patches of texture) or "mixed" (one of both, drawn by
    the seed). Raises ValueError for an unknown kind, no frames, or a size beyond 16..1024.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
    if frames < 1 or not all(16 <= n <= 1024 for n in size):
        raise ValueError(f"a clip has 1 or more frames of 16..1024 pixels, not {frames} of {size}")
    rng = np.random.default_rng(seed)
    street = kind == "street" or (kind == "mixed" and rng.random() < 0.6)
    scene = (StreetScene if street else AbstractScene)(rng, frames, size)
    look = Look(rng, strength=1.0)
    pictures = np.empty((frames, *size, 3), np.uint8)
    instances = np.empty((frames, *size), np.uint16)
    for t in range(frames):
        canvas = scene.draw(t)
        pictures[t], instances[t] = look.apply(canvas.rgb), canvas.ids
    class_ids = np.full(max(scene.class_ids) + 1, NO_CLASS, np.int64)
    class_ids[list(scene.class_ids)] = list(scene.class_ids.values())
    return Clip(pictures, instances, class_ids)
