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
        self._down, self._across = (_axis(*sides) for sides in zip(grid, size, strict=True))

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
        down, across = self._down.part(y, height), self._across.part(x, width)
        columns, rows = down.counts @ owned, owned @ across.counts  # in pixels
        area = int(down.counts @ rows)
        return Extent(
            (across.start, down.start, len(across.places), len(down.places)),
            area,
            (
                across.start + float(columns @ across.sums) / area,
                down.start + float(rows @ down.sums) / area,
            ),
            owned.take(across.places, 1).take(down.places, 0),
        )


class _Axis:
    """Where the pixels of one side of an image, from `start` on, lie on a side of the grid.

    places: of each pixel. counts, sums: float64, how many pixels lie on a place of the grid, and
    the sum of their positions, counted from `start`.
    """

    def __init__(self, start: int, places: npt.NDArray[np.int64], grid: int) -> None:
        self.start, self.places = start, places
        self.counts = np.bincount(places, minlength=grid).astype(np.float64)
        self.sums = np.bincount(places, np.arange(len(places)), minlength=grid)

    def part(self, start: int, length: int) -> _Axis:
        """A stretch of the grid, and the pixels that lie there."""
        first, end = np.searchsorted(self.places, (start, start + length))
        return _Axis(int(first), self.places[first:end] - start, length)


def _axis(grid: int, size: int) -> _Axis:
    places = np.arange(grid, dtype=np.float32)[None]
    enlarged = cv2.resize(places, (size, 1), interpolation=cv2.INTER_NEAREST)
    return _Axis(0, enlarged[0].astype(np.int64), grid)
