"""Clips of things that leave the picture, are covered by others, and return.

Things are pasted on a still that sways; each moves on a path of its own, and nearer ones cover
those behind. Some look much alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.data import change_colours
from sam2vss_ros.training.pasted import Affine, Cutout, Pictures, Rgb, paste, placed, warped

SIZES = ((192, 320), (224, 288), (256, 256))
"""Heights and widths of pictures."""

MOST_THINGS = 6
STAY, AWAY = (12, 40), (4, 24)
"""Bounds of the frames that a thing stays in sight, and out of it."""

SPEED = 0.045
"""Most of the picture's width that a thing moves by in a frame."""


def leaving_clip(
    pictures: Pictures, rng: np.random.Generator, frames: int
) -> Iterator[tuple[Rgb, npt.NDArray[np.uint16]]]:
    """Yield (frame, ids): (H, W, 3) uint8 RGB and (H, W) uint16, as of `returns_video`."""
    size = SIZES[rng.integers(len(SIZES))]
    margin = 0.1
    wide = (round(size[0] * (1 + 2 * margin)), round(size[1] * (1 + 2 * margin)))
    still = pictures.background(rng, wide).image
    things = _things(pictures, rng)
    paths = [_Path(rng, thing, size, frames) for thing in things]
    sway = rng.uniform(0, margin, 2) * size[::-1]
    period, phase = rng.uniform(40, 160), rng.uniform(0, 2 * np.pi)
    light = rng.normal(0, 0.08, (2, 3))
    for t in range(frames):
        shift = sway * np.sin(2 * np.pi * t / period + phase)
        camera = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        camera[:, 2] -= margin * np.array(size[::-1])
        image, ids = warped(still, camera, size), np.zeros(size, np.int32)
        for new, (thing, path) in enumerate(zip(things, paths, strict=True), 1):
            image = paste(image, ids, new, thing, path.at(t, shift))
        gain = np.exp(light[0] + (light[1] - light[0]) * t / frames)
        noisy = image * gain + rng.normal(0, 2, image.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8), ids.astype(np.uint16)


def _things(pictures: Pictures, rng: np.random.Generator) -> list[Cutout]:
    """Some of them the same cutout in somewhat other colours."""
    things: list[Cutout] = []
    for _ in range(int(rng.integers(2, MOST_THINGS + 1))):
        if things and rng.random() < 0.25:
            like = things[rng.integers(len(things))]
            things.append(Cutout(change_colours(like.image, rng), like.mask))
        else:
            things.append(pictures.thing(rng))
    return things


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
