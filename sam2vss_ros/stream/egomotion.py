"""How the image moves because the camera does.

A camera that turns, and any camera before a plane, moves the image by a quadratic function of the
place (Longuet-Higgins and Prazdny 1980). What sticks out of the plane moves besides along the lines
through one point, the epipole. That says nothing of a single thing, which may move by itself along
such a line; but where the lines are wide apart and most of what is left follows them, as before a
camera that drives, it is the camera's motion as well.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

POINTS = 32
"""Places on the longer side of the grid on which motion is fitted."""

ROUNDS = 8
"""Of iteratively reweighted least squares."""

BORDER, CENTRE_WEIGHT = 0.7, 0.3
"""What moves by itself is seldom at the image's border: places farther in count less."""

ALONG, WIDE = 0.7, 0.65
"""The camera drives where so much of the residual motion is along the epipole's lines, and its
places are so far from their mean (half widths of the image), both on average of late."""

KEEP = 0.8
"""Share of the past in these averages."""


class Egomotion:
    """The camera's part in the flow of one stream."""

    def __init__(self) -> None:
        self._parallax: npt.NDArray[np.float64] | None = None

    def explain(self, flow: Array, belief: Array) -> Array:
        """The (2, h, w) flow that the camera's motion explains of a (2, h, w) `flow` in pixels.

        belief: (h, w) from 0 to 1. Pixels are as wide as they are high.
        """
        x, y = _grid(belief.shape)
        camera = _quadratic(flow, belief, x, y)
        rest = flow - camera
        epipole, parallax = _epipole(rest, belief, x, y)
        past = parallax if self._parallax is None else self._parallax
        self._parallax = KEEP * past + (1 - KEEP) * parallax
        if (self._parallax >= (ALONG, WIDE)).all():
            lines = np.stack([x - epipole[0], y - epipole[1]])
            lines /= np.maximum(np.hypot(*lines), 1e-3)
            camera = camera + lines * (rest * lines).sum(0)
        return camera.astype(np.float32)


@functools.lru_cache(maxsize=4)
def _grid(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """x and y of all places, (h, w) each, from -1 to 1 along the longer side of the image."""
    h, w = shape
    scale = 2 / max(h, w)
    x = (np.arange(w, dtype=np.float32) + 0.5 - w / 2) * scale
    y = (np.arange(h, dtype=np.float32) + 0.5 - h / 2) * scale
    return np.meshgrid(x, y)  # type: ignore[return-value]


def _sampled(shape: tuple[int, ...]) -> tuple[slice, slice]:
    step = max(1, max(shape) // POINTS)
    return slice(step // 2, None, step), slice(step // 2, None, step)


def _quadratic(flow: Array, belief: Array, x: Array, y: Array) -> npt.NDArray[np.float64]:
    """The flow of a plane before a moving camera that fits most, robustly."""
    some = _sampled(belief.shape)
    across, down = _basis(belief.shape, sampled=True)
    u, v = flow[0][some].ravel(), flow[1][some].ravel()
    inner = (np.abs(x) < BORDER * x.max()) & (np.abs(y) < BORDER * y.max())
    prior = (belief * np.where(inner, CENTRE_WEIGHT, 1))[some].ravel()
    weights = prior
    for _ in range(ROUNDS):
        left = (across * weights[:, None]).T @ across + (down * weights[:, None]).T @ down
        right = across.T @ (weights * u) + down.T @ (weights * v)
        motion = np.linalg.solve(left + 1e-3 * np.eye(len(left)), right)
        miss = np.square(u - across @ motion) + np.square(v - down @ motion)
        scale = np.clip(1.5 * np.sqrt(_median(miss, prior)), 0.4, 6.0)  # pixels
        weights = prior / np.square(1 + miss / scale**2)
    across, down = _basis(belief.shape)
    return np.stack([across @ motion, down @ motion]).reshape(2, *x.shape)


@functools.lru_cache(maxsize=8)
def _basis(shape: tuple[int, ...], sampled: bool = False) -> tuple[Array, Array]:
    """(N, 8) each: what the eight parameters of a plane's flow do to its two components, at all
    places of a grid or at those `_sampled`."""
    some = _sampled(shape) if sampled else np.s_[:, :]
    x, y = (axis[some].ravel() for axis in _grid(shape))
    none, one = np.zeros_like(x), np.ones_like(x)
    across = np.stack([one, x, y, none, none, none, x * x, x * y], 1)
    down = np.stack([none, none, none, one, x, y, x * y, y * y], 1)
    return across, down


def _median(values: Array, weights: Array) -> float:
    order = values.argsort()
    total = weights[order].cumsum()
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _epipole(
    rest: Array, belief: Array, x: Array, y: Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The point through which most lines of residual motion go; how much of it is along them, from
    0 to 1, and how far apart its places are."""
    some = _sampled(belief.shape)
    at = np.stack([x[some].ravel(), y[some].ravel()], 1)
    u, v = rest[0][some].ravel(), rest[1][some].ravel()
    length = np.hypot(u, v)
    prior = belief[some].ravel() * length**2 / (length**2 + 0.25) + 1e-9
    normal = np.stack([v, -u], 1) / np.maximum(length, 1e-6)[:, None]
    weights, offset = prior, (normal * at).sum(1)
    for _ in range(ROUNDS):
        left = (normal * weights[:, None]).T @ normal + 1e-6 * np.eye(2)
        epipole = np.linalg.solve(left, normal.T @ (weights * offset))
        away = np.square(at - epipole).sum(1) + 1e-6
        across = np.square(offset - normal @ epipole) / away  # squared sine of the angle between
        weights = prior / np.square(1 + across / 0.04) / (away + 0.05)
    share = prior / prior.sum()
    spread = share @ np.square(at - share @ at).sum(1)
    return epipole, np.array([1 - share @ across, np.sqrt(spread)])
