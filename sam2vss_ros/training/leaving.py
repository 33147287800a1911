"""Clips of things that leave the picture, are covered by others, and return.

Things are pasted on a still that sways; each moves on a path of its own, and nearer ones cover
those behind. Some look much alike. In lively clips they bend, most are creatures, and half of the
backgrounds move; and crowds of their likes stand around them, which are nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.creatures import MOST_MATERIALS, SIDE, Bending, creature
from sam2vss_ros.training.data import change_colours
from sam2vss_ros.training.pasted import Affine, Cutout, Pictures, Rgb, paste, placed, warped

SIZES = ((192, 320), (224, 288), (256, 256))
"""Heights and widths of pictures."""

MOST_THINGS = 6
STAY, AWAY = (12, 40), (4, 24)
"""Bounds of the frames that a thing stays in sight, and out of it."""

CREATURES, FOOTAGE = 0.6, 0.5
"""Shares of the things of lively clips that are creatures, and of their backgrounds that are
videos, where there are any."""

CROWDS, CROWD = 0.5, 14
"""Share of lively clips with a crowd, and the most that are in one."""

SWAY = 0.1
"""How far the background sways to each side, as a share of the picture's."""

SPEED = 0.045
"""Most of the picture's width that a thing moves by in a frame."""


def leaving_clip(
    pictures: Pictures, rng: np.random.Generator, frames: int, *, lively: bool = False
) -> Iterator[tuple[Rgb, npt.NDArray[np.uint16]]]:
    """Yield (frame, ids): (H, W, 3) uint8 RGB and (H, W) uint16, as of `returns_video`."""
    size = SIZES[rng.integers(len(SIZES))]
    wide = (round(size[0] * (1 + 2 * SWAY)), round(size[1] * (1 + 2 * SWAY)))
    if lively and pictures.videos and rng.random() < FOOTAGE:
        backgrounds = pictures.footage(rng, frames, wide)
    else:
        backgrounds = [pictures.background(rng, wide).image]
    things = _things(pictures, rng, lively)
    if lively and rng.random() < CROWDS:
        backgrounds = _crowded(backgrounds, things, rng)
    paths = [_Path(rng, thing, size, frames) for thing in things]
    bends = [Bending(rng) if lively else None for _ in things]
    sway = rng.uniform(0, SWAY, 2) * size[::-1]
    period, phase = rng.uniform(40, 160), rng.uniform(0, 2 * np.pi)
    light = rng.normal(0, 0.08, (2, 3))
    for t in range(frames):
        shift = sway * np.sin(2 * np.pi * t / period + phase)
        camera = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        camera[:, 2] -= SWAY * np.array(size[::-1])
        # A short video ends before the clip; its last frame stays.
        background = backgrounds[min(t, len(backgrounds) - 1)]
        image, ids = warped(background, camera, size), np.zeros(size, np.int32)
        for new, (thing, path, bend) in enumerate(zip(things, paths, bends, strict=True), 1):
            shown = thing if bend is None else bend.at(t, thing)
            image = paste(image, ids, new, shown, path.at(t, shift))
        gain = np.exp(light[0] + (light[1] - light[0]) * t / frames)
        noisy = image * gain + rng.normal(0, 2, image.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8), ids.astype(np.uint16)


def _things(pictures: Pictures, rng: np.random.Generator, lively: bool) -> list[Cutout]:
    """Some of them the same cutout in somewhat other colours."""
    things: list[Cutout] = []
    for _ in range(int(rng.integers(2, MOST_THINGS + 1))):
        if things and rng.random() < 0.25:
            like = things[rng.integers(len(things))]
            things.append(Cutout(change_colours(like.image, rng), like.mask))
        elif lively and rng.random() < CREATURES:
            count = int(rng.integers(1, MOST_MATERIALS + 1))
            materials = [pictures.background(rng, (SIDE, SIDE)).image for _ in range(count)]
            things.append(creature(rng, materials))
        else:
            things.append(pictures.thing(rng))
    return things


def _crowded(backgrounds: list[Rgb], things: list[Cutout], rng: np.random.Generator) -> list[Rgb]:
    """The backgrounds with things like those of the clip all over them."""
    crowd = []
    for _ in range(int(rng.integers(2, CROWD + 1))):
        like = things[rng.integers(len(things))]
        if rng.random() < 0.5:
            like = Cutout(change_colours(like.image, rng), like.mask)
        thing = Bending(rng).at(0, like)
        if thing.mask.any():
            crowd.append((thing, placed(rng, thing, backgrounds[0].shape)))
    crowded = []
    for image in backgrounds:
        nobody = np.zeros(image.shape[:2], np.int32)
        for thing, matrix in crowd:
            image = paste(image, nobody, 0, thing, matrix)
        crowded.append(image)
    return crowded


class _Path:
    """Where one thing is when: it stays a while, goes out of the picture or on, and comes back."""

    def __init__(
        self, rng: np.random.Generator, thing: Cutout, size: tuple[int, int], frames: int
    ) -> None:
        h, w = thing.mask.shape
        self._first = placed(rng, thing, size)
        self._middle = self._first @ (w / 2, h / 2, 1)
        self._turn = rng.normal(0, 6, 2)  # degrees, and frames^-1/10 of its swing
        width = size[1]
        knots = [(0.0, *self._middle, 0.0)]  # frame, x, y, logarithm of the size
        while knots[-1][0] < frames:
            t, x, y, grown = knots[-1]
            if rng.random() < 0.5:
                place = np.array([rng.choice([-0.4, 1.4]) * width, y])
                pause = rng.uniform(*AWAY)
            else:
                place = rng.uniform(0.05, 0.95, 2) * size[::-1]
                pause = rng.uniform(*STAY)
            step = rng.uniform(0.3, 1.0) * SPEED * width
            t += max(4.0, float(np.hypot(*(place - (x, y)))) / step)
            grown = float(np.clip(grown + rng.normal(0, 0.15), -0.4, 0.4))
            knots += [(t, *place, grown), (t + pause, *place, grown)]
        self._knots = np.array(knots)

    def at(self, t: int, shift: npt.NDArray[np.float64]) -> Affine:
        """(2, 3) from the cutout to the picture."""
        x, y, grown = (np.interp(t, self._knots[:, 0], self._knots[:, i]) for i in (1, 2, 3))
        angle = self._turn[0] * np.sin(t / (8 + abs(self._turn[1])))
        change = cv2.getRotationMatrix2D(self._middle.tolist(), float(angle), float(np.exp(grown)))
        change[:, 2] += (x, y) - self._middle + shift
        matrix = change[:, :2] @ self._first
        matrix[:, 2] += change[:, 2]
        return np.asarray(matrix)
