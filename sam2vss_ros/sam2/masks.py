"""Arithmetic of masks."""

from __future__ import annotations

from torch import Tensor


def iou_of(one: Tensor, other: Tensor) -> Tensor:
    """IoU of (B, h, w) bool masks, pair by pair: (B,) float32; 0 where both are empty."""
    both = (one & other).flatten(1).sum(1)
    return both / (one | other).flatten(1).sum(1).clamp(min=1)
