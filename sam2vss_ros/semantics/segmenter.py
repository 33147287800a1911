"""The dense head: a class for every pixel from the frozen features of SAM 2's image encoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dense(NamedTuple):
    """logits: (B, classes, S/4, S/4). hidden: (B, width, S/4, S/4), what the logits are made of."""

    logits: Tensor
    hidden: Tensor


class DenseHead(nn.Module):
    """A top-down head over the three pyramid levels, with a global context at its top.

    channels: those of the pyramid; classes: outputs; width: channels inside the head.
    """

    def __init__(self, channels: int, classes: int, width: int = 48) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), _unit(channels, width, 1))
        self.top = nn.Sequential(_unit(channels, width, 1), _unit(width, width, 3))
        self.middle = _unit(channels, width, 1)
        self.middle_mix = _unit(width, width, 3)
        self.fine = _unit(channels, width, 1)
        self.fine_mix = _unit(width, width, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, pyramid: tuple[Tensor, Tensor, Tensor]) -> Dense:
        """Pyramid of (B, channels, ., .) at strides 4, 8 and 16 -> Dense at stride 4."""
        fine, middle, top = pyramid
        x = self.top(top) + self.context(top)
        x = self.middle_mix(_double(x) + self.middle(middle))
        x = self.fine_mix(_double(x) + self.fine(fine))
        return Dense(self.classify(self.dropout(x)), x)


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # Group norm, since batches in training are small and inference has one image.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(8, outputs),
        nn.GELU(),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@torch.no_grad()
def label_of(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, classes, ., .) logits -> (height, width) class indices at `size`."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].argmax(0)
