"""A head of classes that only training has, so that SAM 2's features carry them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """A top-down head over SAM 2's three pyramid levels, with a global context at its top.

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

    def forward(self, pyramid: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Pyramid of (B, channels, ., .) at strides 4, 8 and 16 -> class logits at stride 4."""
        fine, middle, top = pyramid
        x = self.top(top) + self.context(top)
        x = self.middle_mix(_double(x) + self.middle(middle))
        x = self.fine_mix(_double(x) + self.fine(fine))
        logits: Tensor = self.classify(self.dropout(x))
        return logits


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # Group norm, since batches in training are small and inference has one image.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(8, outputs),
        nn.GELU(),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
