"""Paint of the procedural scenes: textures, colours, sprites on a canvas, and the photometry.

Everything is 8-bit so that OpenCV's fast paths do the work. A relief is a grey image that
multiplies a colour; the value RELIEF_UNIT leaves the colour as it is.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Range = tuple[float, float]

RELIEF_UNIT = 128
_TEXTURE_SIZE = 384
_NOISE_SIZE = 1024


def _fractal(rng: np.random.Generator, cells: tuple[int, ...], stretch: float = 1.0) -> np.ndarray:
    """Smooth noise with features of 1/cells of the image; stretch > 1 draws it out along x."""
    size = _TEXTURE_SIZE
    total = np.zeros((size, size), np.float32)
    for octave, n in enumerate(cells):
        grid = rng.standard_normal((n, max(2, int(n / stretch)))).astype(np.float32)
        total += 0.7**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return total


def _texture(rng: np.random.Generator, kind: int) -> np.ndarray:
    y, x = np.mgrid[0:_TEXTURE_SIZE, 0:_TEXTURE_SIZE].astype(np.float32)
    fine = _fractal(rng, (96, 192))
    if kind == 0:  # clouds
        return _fractal(rng, (3, 6, 12, 24))
    if kind == 1:  # asphalt, plaster
        return _fractal(rng, (48, 96, 192, 384))
    if kind == 2:  # wood, streaks
        return _fractal(rng, (8, 24, 96), stretch=rng.uniform(4, 12))
    if kind == 3:  # stripes at any angle
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 48)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
        return np.sign(wave - rng.uniform(-0.6, 0.6)) + 0.3 * fine
    if kind == 4:  # checks
        period = rng.uniform(12, 56)
        return np.sign(np.sin(x * 6.28 / period) * np.sin(y * 6.28 / period)) + 0.3 * fine
    if kind == 5:  # bricks, slabs
        high = rng.uniform(7, 20)
        wide = high * rng.uniform(1.2, 3)
        row = np.floor(y / high)
        joint = ((y % high) < 1.5) | (((x + (row % 2) * wide / 2) % wide) < 1.5)
        tone = rng.standard_normal((64, 64)).astype(np.float32)
        brick = ((x + (row % 2) * wide / 2) // wide).astype(int) % 64
        return tone[row.astype(int) % 64, brick] - 2.0 * joint + 0.3 * fine
    if kind == 6:  # leaves, gravel
        return np.abs(_fractal(rng, (24, 48, 96)))
    return (_fractal(rng, (32, 96)) > rng.uniform(0.6, 1.4)).astype(np.float32)  # spots


@lru_cache(maxsize=1)
def textures() -> Image:
    """(48, 384, 384) uint8 reliefs, mean RELIEF_UNIT, eight kinds; the same in every process."""
    rng = np.random.default_rng(20)
    bank = []
    for i in range(48):
        t = _texture(rng, i % 8)
        t = (t - t.mean()) / (t.std() + 1e-6)
        bank.append(np.clip(RELIEF_UNIT + 42 * t, 0, 255).astype(np.uint8))
    return np.stack(bank)


@lru_cache(maxsize=1)
def _noise() -> Image:
    """(1024, 1024, 3) uint8 noise, mean 128 and deviation 32; partly coarse, as after JPEG."""
    rng = np.random.default_rng(21)
    fine = rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE, 3)).astype(np.float32)
    coarse = cv2.GaussianBlur(rng.standard_normal(fine.shape).astype(np.float32), (0, 0), 0.9)
    mixed = fine * [0.7, 0.6, 0.8] + coarse * 1.6 + rng.standard_normal(fine.shape[:2])[..., None]
    return np.clip(128 + 32 * mixed / mixed.std(), 0, 255).astype(np.uint8)


def relief(
    rng: np.random.Generator,
    height: int,
    width: int,
    contrast: float,
    zoom: float = 1.0,
    kinds: tuple[int, ...] = (),
) -> Image:
    """A (height, width) piece of a random texture (of `kinds`, if given) at a contrast of 0..1."""
    bank = textures()
    kind = int(rng.choice(kinds)) if kinds else int(rng.integers(8))
    texture = bank[kind + 8 * int(rng.integers(len(bank) // 8))]
    h = int(np.clip(height / zoom, 4, _TEXTURE_SIZE))
    w = int(np.clip(width / zoom, 4, _TEXTURE_SIZE))
    y = int(rng.integers(_TEXTURE_SIZE - h + 1))
    x = int(rng.integers(_TEXTURE_SIZE - w + 1))
    piece = cv2.convertScaleAbs(
        texture[y : y + h, x : x + w], alpha=contrast, beta=RELIEF_UNIT * (1 - contrast)
    )
    return cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)


def colour(
    rng: np.random.Generator,
    hue: Range = (0.0, 1.0),
    saturation: Range = (0.0, 1.0),
    value: Range = (0.1, 1.0),
) -> tuple[int, int, int]:
    """A random RGB colour within ranges of 0..1; hues below 0 wrap round to red."""
    r, g, b = colorsys.hsv_to_rgb(
        rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    )
    return int(255 * r), int(255 * g), int(255 * b)


def paint(parts: Image, palette: list[tuple[int, int, int]], *reliefs: Image) -> Image:
    """(H, W, 3) colours of a (H, W) part map, multiplied by (H, W) reliefs."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    rgb = cv2.applyColorMap(parts, table)
    for r in reliefs:
        rgb = cv2.multiply(rgb, cv2.merge((r, r, r)), scale=1 / RELIEF_UNIT)
    return rgb


@dataclass
class Sprite:
    """A coloured flat picture. rgb (H, W, 3), alpha (H, W) how opaque it looks, mask (H, W) 0 or
    255 what belongs to it: the crown of a bare tree is the tree's though the sky shines through.

    Smaller copies are made on demand, so that a distant object does not flicker.
    """

    rgb: Image
    alpha: Image
    mask: Image
    _half: Sprite | None = field(default=None, repr=False)

    @property
    def see_through(self) -> bool:
        return self.mask is not self.alpha

    def at_scale(self, scale: float) -> Sprite:
        """The copy that fits drawing at `scale`: itself, or halved once or more."""
        if scale >= 0.6 or min(self.alpha.shape) < 16:
            return self
        if self._half is None:
            size = (self.alpha.shape[1] // 2, self.alpha.shape[0] // 2)
            rgb, alpha, mask = (
                cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
                for layer in (self.rgb, self.alpha, self.mask)
            )
            self._half = Sprite(rgb, alpha, mask if self.see_through else alpha)
        return self._half.at_scale(scale * 2)


class Canvas:
    """The picture being painted, back to front: rgb (H, W, 3) uint8 and ids (H, W) uint16."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.uint16)

    def sprite(self, sprite: Sprite, matrix: np.ndarray, region: int) -> None:
        """Paint a sprite; `matrix` (2, 3) takes sprite pixels to canvas pixels."""
        (a, b, x), (c, d, y) = matrix.tolist()
        h, w = sprite.alpha.shape
        height, width = self.ids.shape
        x0 = max(0, math.floor(x + min(0, a * w) + min(0, b * h)))
        y0 = max(0, math.floor(y + min(0, c * w) + min(0, d * h)))
        x1 = min(width, math.ceil(x + max(0, a * w) + max(0, b * h)) + 1)
        y1 = min(height, math.ceil(y + max(0, c * w) + max(0, d * h)) + 1)
        if x1 <= x0 or y1 <= y0:
            return
        small = sprite.at_scale(max(math.hypot(a, c), math.hypot(b, d)))
        kx, ky = w / small.alpha.shape[1], h / small.alpha.shape[0]
        m = np.array([[a * kx, b * ky, x - x0], [c * kx, d * ky, y - y0]])
        size = (x1 - x0, y1 - y0)
        rgb = cv2.warpAffine(small.rgb, m, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(small.alpha, m, size)
        mask = cv2.warpAffine(small.mask, m, size) if small.see_through else alpha
        self.blend(x0, y0, rgb, alpha, mask, region)

    def blend(self, x: int, y: int, rgb: Image, alpha: Image, mask: Image, region: int) -> None:
        """Lay rgb (h, w, 3) over the picture at (x, y), as opaque as alpha (h, w) says."""
        window = np.s_[y : y + alpha.shape[0], x : x + alpha.shape[1]]
        opacity = alpha.astype(np.float32) * np.float32(1 / 255)
        view = self.rgb[window]
        view[:] = cv2.blendLinear(rgb, view, opacity, 1 - opacity)
        self.ids[window][mask > 127] = region


class Photometry:
    """What the camera makes of a scene: exposure, tint, gamma, blur and noise.

    `strength` scales how far from neutral the draw may go; exposure drifts from frame to frame.
    """

    def __init__(self, rng: np.random.Generator, strength: float) -> None:
        s = strength
        self._rng = rng
        self._gain = float(np.exp(s * np.clip(rng.normal(-0.05, 0.25), -0.6, 0.25)))
        self._gamma = float(np.exp(s * np.clip(rng.normal(0, 0.2), -0.4, 0.4)))
        self._contrast = float(np.exp(rng.normal(0, 0.15 * s)))
        self._tint = np.exp(rng.normal(0, 0.06 * s, 3))
        self._drift = rng.normal(0, 0.015 * s)
        self._noise = float(rng.choice([1.0, 3.0, 6.0, 12.0])) * s
        self._blur = float(rng.choice([0.0, 0.0, 0.6, 1.0, 1.5])) if s > 0.5 else 0.0
        self._smear = int(rng.choice([0, 0, 0, 0, 3, 7])) if s > 0.5 else 0
        self._frame = 0

    def apply(self, rgb: Image) -> Image:
        """The (H, W, 3) picture the camera gives of `rgb`."""
        level = np.linspace(0, 1, 256)[:, None] ** self._gamma
        drift = 1 + 0.1 * np.sin(self._drift * 10 * self._frame)
        level = ((level - 0.4) * self._contrast + 0.4) * self._gain * drift * self._tint
        self._frame += 1
        table = (255 * np.clip(level, 0, 1)).astype(np.uint8)
        out = cv2.LUT(rgb, table[None])
        if self._blur:
            out = cv2.GaussianBlur(out, (0, 0), self._blur)
        if self._smear:
            out = cv2.blur(out, (self._smear, 1))
        h, w = rgb.shape[:2]
        if h > _NOISE_SIZE or w > _NOISE_SIZE:
            raise ValueError(
                f"scenes are at most {_NOISE_SIZE} pixels high and wide, not {h} x {w}"
            )
        y = int(self._rng.integers(_NOISE_SIZE - h + 1))
        x = int(self._rng.integers(_NOISE_SIZE - w + 1))
        k = self._noise / 32
        return cv2.addWeighted(out, 1, _noise()[y : y + h, x : x + w], k, -128 * k)
