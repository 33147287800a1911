"""Square masks for tests."""

from __future__ import annotations

import torch
from torch import Tensor


def box(x0: int, y0: int, x1: int, y1: int, side: int = 16) -> Tensor:
    """(side, side) bool mask."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask
