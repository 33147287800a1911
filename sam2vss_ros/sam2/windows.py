"""Square windows around objects; tracking attends and decodes only inside them.

All lengths are in tokens, the cells of the image features at stride 16. Grids are square.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.transfer import upload

SIDES = (8, 12, 16, 24, 32, 48, 64)
"""The sides a window may have: only a few, so that many objects share a batch."""

LEAST_GRID = 32
"""The smallest grid that has windows. On smaller ones cropping and pasting cost more than they
save: at 16 the arithmetic halves, yet frames take longer (`sam2vss bench speed`)."""

OUTSIDE = -10.0
"""The mask logit of pixels outside an object's window."""


@dataclass(frozen=True)
class Windows:
    """B windows of `side` x `side` tokens on a grid of `grid` x `grid`.

    corners: (B, 2) int64, the first row and column of each.
    """

    grid: int
    side: int
    corners: Tensor

    def to(self, device: torch.device) -> Windows:
        """The same windows with their corners on `device`."""
        return Windows(self.grid, self.side, upload(self.corners, device))

    def tokens(self) -> Tensor:
        """Positions of the windows' tokens in the flattened grid, row by row: (B, side^2) int64."""
        rows, columns = self._lines(1)
        return (rows[:, :, None] * self.grid + columns[:, None, :]).flatten(1)

    def crop(self, maps: Tensor) -> Tensor:
        """Crop (1 or B, C, n, n) maps, n a multiple of the grid: (B, C, side * n / grid, ...)."""
        rows, columns = self._lines(maps.shape[-1] // self.grid)
        rows, columns = rows[:, :, None], columns[:, None, :]
        if len(maps) == 1:
            return maps[0].permute(1, 2, 0)[rows, columns].permute(0, 3, 1, 2)
        each = torch.arange(len(maps), device=maps.device)[:, None, None]
        return maps.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)

    def paste(self, crops: Tensor, onto: Tensor) -> Tensor:
        """Write (B, C, m, m) crops into (B, C, n, n) maps, in place; returns the maps."""
        rows, columns = self._lines(onto.shape[-1] // self.grid)
        each = torch.arange(len(onto), device=onto.device)[:, None, None]
        view = onto.permute(0, 2, 3, 1)
        view[each, rows[:, :, None], columns[:, None, :]] = crops.permute(0, 2, 3, 1).to(onto.dtype)
        return onto

    def _lines(self, scale: int) -> tuple[Tensor, Tensor]:
        """The rows and columns of the windows, (B, side * scale), in maps `scale` times finer."""
        steps = torch.arange(self.side * scale, device=self.corners.device)
        first = self.corners * scale
        return first[:, :1] + steps, first[:, 1:] + steps


def boxes_of(masks: Tensor, grid: int) -> Tensor:
    """The boxes of (B, n, n) mask logits: (B, 4) int64 first row and column, end row and column.

    The ends are exclusive. An empty mask says nothing about where the object is: its box is the
    whole grid.
    """
    cells = F.max_pool2d(masks[:, None], masks.shape[-1] // grid)[:, 0] > 0
    edges = []
    for line in (cells.any(2), cells.any(1)):
        first = line.int().argmax(1)
        end = grid - line.flip(1).int().argmax(1)
        edges.append((first, end))
    (top, bottom), (left, right) = edges
    return torch.stack([top, left, bottom, right], 1)


def margin_of(grid: int) -> int:
    """How far a window extends beyond its object's box on each side."""
    return max(2, grid // 8)


def sides_for(boxes: Tensor, grid: int) -> Tensor:
    """The smallest side that fits each of (..., 4) boxes and its margins: (...) int64.

    On grids smaller than LEAST_GRID this is always the whole grid.
    """
    if grid < LEAST_GRID:
        return torch.full_like(boxes[..., 0], grid)
    sides = torch.tensor([*(s for s in SIDES if s < grid), grid], device=boxes.device)
    needed = (boxes[..., 2:] - boxes[..., :2]).amax(-1) + 2 * margin_of(grid)
    return sides[torch.searchsorted(sides, needed.clamp(max=grid))]


def windows_around(boxes: Tensor, side: int, grid: int) -> Windows:
    """Windows of `side`, centred on (B, 4) boxes but shifted to lie inside the grid."""
    centres = (boxes[:, :2] + boxes[:, 2:]).div(2, rounding_mode="floor")
    return Windows(grid, side, (centres - side // 2).clamp(0, grid - side))
