"""From the grid on which labels are decided to the pixels of the image, by nearest neighbours."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt


class Extent(NamedTuple):
    """What an object covers of an image; as the fields of `TrackedObject`."""

    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    area: int = 0
    centroid: tuple[float, float] = (0.0, 0.0)
    mask: npt.NDArray[np.bool_] = np.zeros((0, 0), bool)


class Enlargement:
    """Of maps on a grid to an image that is not smaller. grid, size: height and width of each.

    What covers pixels is counted on the grid, where there are fewer.
    """

    def __init__(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        self._down, self._across = (_Axis(*sides) for sides in zip(grid, size, strict=True))

    def image(self, map_: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A map on the grid, as large as the image."""
        wide = (len(self._across.places), len(map_))
        # First to the side: to copy whole rows takes no time.
        enlarged = cv2.resize(map_, wide, interpolation=cv2.INTER_NEAREST)
        return enlarged.take(self._down.places, 0)

    def extent(self, owned: npt.NDArray[np.bool_]) -> Extent:
        """What the owned places of the grid cover of the image."""
        x, y, width, height = cv2.boundingRect(owned.view(np.uint8))
        if not width:
            return Extent()
        owned = owned[y : y + height, x : x + width]
        down, across = self._down.part(y, y + height), self._across.part(x, x + width)
        columns, rows = down.counts @ owned, owned @ across.counts  # in pixels
        area = int(down.counts @ rows)
        return Extent(
            (across.start, down.start, len(across.places), len(down.places)),
            area,
            (float(columns @ across.sums) / area, float(rows @ down.sums) / area),
            owned.take(across.places, 1).take(down.places, 0),
        )


class _Part(NamedTuple):
    """Places of one side of a grid that follow each other, and the pixels that lie there.

    start: the first of these pixels; places: of each, counted from the first. counts, sums:
    float64, how many pixels lie on a place, and the sum of their positions in the image.
    """

    start: int
    places: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]


class _Axis:
    """Where the pixels of one side of an image lie on that side of the grid. places: of each."""

    def __init__(self, grid: int, size: int) -> None:
        along = np.arange(grid, dtype=np.float32)[None]
        enlarged = cv2.resize(along, (size, 1), interpolation=cv2.INTER_NEAREST)
        self.places = enlarged[0].astype(np.int64)
        self._counts, self._sums = (
            np.bincount(self.places, weights, grid).astype(np.float64)
            for weights in (None, np.arange(size))
        )
        self._starts = np.searchsorted(self.places, np.arange(grid + 1))

    def part(self, start: int, end: int) -> _Part:
        """From one place to before another."""
        first, last = self._starts[[start, end]].tolist()
        places = self.places[first:last] - start
        return _Part(first, places, self._counts[start:end], self._sums[start:end])
