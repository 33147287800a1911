"""A frame of places in square tiles: the queries of a tile share one window of keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.sam2.masks import above

TILE = 8
"""Side of a tile in places."""


class Tiles:
    """The tiles of a grid of (rows, columns) places, numbered row by row; the last ones may reach
    beyond it.

    patch: mask pixels on the side of a place. shape: rows and columns of tiles. mask_size: height
    and width of masks in pixels.
    """

    def __init__(self, grid: tuple[int, int], patch: int) -> None:
        self.grid, self.patch = grid, patch
        self.shape = (-(-grid[0] // TILE), -(-grid[1] // TILE))
        self.count = self.shape[0] * self.shape[1]
        self.mask_size = (grid[0] * patch, grid[1] * patch)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of places of all tiles."""
        return TILE * self.shape[0], TILE * self.shape[1]

    def inside(self) -> Tensor:
        """(tiles, places of a tile, 1), 1 for what lies in the grid, 0 for what is beyond it."""
        down, across = (place < side for place, side in zip(self._along(), self.grid, strict=True))
        return _squares(down[:, None] & across).float()[..., None]

    def places(self) -> Tensor:
        """(tiles, places of a tile) positions in the grid; what is beyond it is on its edge."""
        rows, columns = (
            place.clamp(max=side - 1) for place, side in zip(self._along(), self.grid, strict=True)
        )
        return _squares(rows[:, None] * self.grid[1] + columns)

    def _along(self) -> tuple[Tensor, Tensor]:
        rows, columns = self.size
        return torch.arange(rows), torch.arange(columns)

    def near(self, masks: Tensor, radius: int, least: float) -> Tensor:
        """(B, tiles) bool: is a pixel of the (B, h, w) mask above `least` within so many places of
        the tile?"""
        down, across = (
            _spans(n, side, radius, self.patch).to(masks)
            for n, side in zip(self.shape, self.grid, strict=True)
        )
        # Counted by matrix products: several times as fast on a CPU as looking for the greatest.
        return (down @ (above(masks, least) @ across.T)).flatten(1) > 0

    def cut(self, masks: Tensor, rows: Tensor, tiles: Tensor) -> Tensor:
        """(pairs, places of a tile, patch * patch) of tiles `tiles` of the masks `rows`, of
        (B, h, w)."""
        height, width = (TILE * self.patch * n for n in self.shape)
        whole = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
        down, across = tiles // self.shape[1], tiles % self.shape[1]
        return self._split(whole)[rows, down, :, :, across].transpose(2, 3).flatten(3).flatten(1, 2)

    def joined(
        self, found: Tensor, rows: Tensor, tiles: Tensor, count: int, elsewhere: float
    ) -> Tensor:
        """What `cut` has cut, as (count, h, w) masks."""
        height, width = (TILE * self.patch * n for n in self.shape)
        whole = found.new_full((count, height, width), elsewhere)
        squares = found.view(-1, TILE, TILE, self.patch, self.patch).transpose(2, 3)
        self._split(whole)[rows, tiles // self.shape[1], :, :, tiles % self.shape[1]] = squares
        return whole[:, : self.mask_size[0], : self.mask_size[1]]

    def put(self, table: Tensor, rows: Tensor, tiles: Tensor, found: Tensor | float) -> None:
        """Write (pairs, places of a tile, C) into a (B, rows of places, columns of places, C) table
        without margin."""
        squares = table.unflatten(2, (-1, TILE)).unflatten(1, (-1, TILE))
        if isinstance(found, Tensor):
            found = found.unflatten(1, (TILE, TILE))
        squares[rows, tiles // self.shape[1], :, tiles % self.shape[1]] = found

    def _split(self, whole: Tensor) -> Tensor:
        """(B, rows of tiles, TILE, patch, columns of tiles, TILE, patch) view of padded masks."""
        across = whole.unflatten(2, (-1, TILE, self.patch))
        return across.unflatten(1, (-1, TILE, self.patch))


def _squares(maps: Tensor) -> Tensor:
    """(rows, columns) of whole tiles -> (tiles, places of a tile)"""
    return (
        maps.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)).transpose(1, 2).reshape(-1, TILE**2)
    )


def windows(size: tuple[int, int], radius: int) -> Tensor:
    """(tiles, N) positions of the places within so many rows and columns of each tile, in a grid of
    `size`, whole tiles; what is beyond it is at the position after its last."""
    rows, columns = (
        torch.arange(-radius, n + radius).unfold(0, TILE + 2 * radius, TILE) for n in size
    )
    rows, columns = rows[:, None, :, None], columns[None, :, None]
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    places = torch.where(inside, rows * size[1] + columns, size[0] * size[1])
    return places.flatten(2).flatten(0, 1)


def distances(radius: int) -> Tensor:
    """(places of a tile, N) squared distances between these and those of their window."""
    along = (torch.arange(TILE)[:, None] + radius - torch.arange(TILE + 2 * radius)) ** 2
    return (along[:, None, :, None] + along[None, :, None, :]).reshape(TILE**2, -1)


def _spans(tiles: int, places: int, radius: int, patch: int) -> Tensor:
    """(tiles, places * patch), 1 where a mask pixel is within so many places of a tile."""
    tile, place = torch.arange(tiles)[:, None] * TILE, torch.arange(places)
    near = (place >= tile - radius) & (place < tile + TILE + radius)
    return near.repeat_interleave(patch, 1).float()
