"""Windows: squares around objects, to which the local engine confines attention and decoding.

All lengths are tokens, the cells of the image features at stride 16; a grid has as many rows as
columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = (8, 12, 16, 24, 32, 48, 64)
"""Sides that windows may have: few, so that many objects share a batch."""

LEAST_GRID = 32
"""On smaller grids cutting and pasting take longer than the arithmetic that they save: at 16 the
arithmetic halves, and the frame gets slower (`sam2vss bench speed`)."""

OUTSIDE = -10.0
"""Mask logit of pixels outside the window of an object."""


@dataclass(frozen=True)
class Windows:
    """B windows of one side on a grid of `grid` x `grid` tokens; corners: (B, 2) int64, the first
    row and column of each."""

    grid: int
    side: int
    corners: Tensor

    def to(self, device: torch.device) -> Windows:
        """The same windows with their corners on a device."""
        return Windows(self.grid, self.side, self.corners.to(device))

    def tokens(self) -> Tensor:
        """The places of the windows' tokens in a flattened grid, row by row: (B, side^2) int64."""
        rows, columns = self._lines(1)
        return (rows[:, :, None] * self.grid + columns[:, None, :]).flatten(1)

    def crop(self, maps: Tensor) -> Tensor:
        """Cut (1 or B, C, n, n) maps, n a multiple of the grid: (B, C, side * n / grid, ...)."""
        rows, columns = self._lines(maps.shape[-1] // self.grid)
        rows, columns = rows[:, :, None], columns[:, None, :]
        if len(maps) == 1:
            return maps[0].permute(1, 2, 0)[rows, columns].permute(0, 3, 1, 2)
        each = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)

    def paste(self, crops: Tensor, onto: Tensor) -> Tensor:
        """Write (B, C, m, m) crops over (B, C, n, n) maps, in place; returns the maps."""
        rows, columns = self._lines(onto.shape[-1] // self.grid)
        each = torch.arange(len(onto), device=onto.device)[:, None, None]
        view = onto.permute(0, 2, 3, 1)
        view[each, rows[:, :, None], columns[:, None, :]] = crops.permute(0, 2, 3, 1).to(onto.dtype)
        return onto

    def _lines(self, scale: int) -> tuple[Tensor, Tensor]:
        """(B, side * scale) rows and columns of maps that are `scale` times finer."""
        steps = torch.arange(self.side * scale, device=self.corners.device)
        first = self.corners * scale
        return first[:, :1] + steps, first[:, 1:] + steps


def boxes_of(masks: Tensor, grid: int) -> Tensor:
    """The boxes of (B, n, n) mask logits: (B, 4) int64 first row, first column, row and column
    after the last. An object that is nowhere may be anywhere: its box is the whole grid."""
    cells = F.max_pool2d(masks[:, None], masks.shape[-1] // grid)[:, 0] > 0
    edges = []
    for line in (cells.any(2), cells.any(1)):
        first = line.int().argmax(1)
        end = grid - line.flip(1).int().argmax(1)
        edges.append((first, end))
    (top, bottom), (left, right) = edges
    return torch.stack([top, left, bottom, right], 1)


def margin_of(grid: int) -> int:
    """How far a window reaches beyond the box of its object on either side."""
    return max(2, grid // 8)


def sides_for(boxes: Tensor, grid: int) -> Tensor:
    """The smallest side that holds each of (..., 4) boxes with its margin: (...) int64.

    On grids below LEAST_GRID it is the whole grid.
    """
    if grid < LEAST_GRID:
        return torch.full_like(boxes[..., 0], grid)
    sides = torch.tensor([*(s for s in SIDES if s < grid), grid], device=boxes.device)
    needed = (boxes[..., 2:] - boxes[..., :2]).amax(-1) + 2 * margin_of(grid)
    return sides[torch.searchsorted(sides, needed.clamp(max=grid))]


def windows_around(boxes: Tensor, side: int, grid: int) -> Windows:
    """Windows of `side`, centred on (B, 4) boxes as far as the grid allows."""
    centres = (boxes[:, :2] + boxes[:, 2:]).div(2, rounding_mode="floor")
    return Windows(grid, side, (centres - side // 2).clamp(0, grid - side))
