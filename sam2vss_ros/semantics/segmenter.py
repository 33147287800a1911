"""The dense head: classes, and the middles of things, for every pixel from the trunk's features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.trunk import CHANNELS, STAGES, stages
from sam2vss_ros.packing import Convolution

DEEP_STAGES = ((6, 160, 3, 2), (6, 320, 1, 1))
"""The end of MobileNetV2, to stride 32: expansion, channels, blocks, stride of the first one."""

DEEPEST = DEEP_STAGES[-1][1]

CONTEXT_GRIDS = ((1, 1), (2, 2), (4, 4), (6, 1))
"""Rows and columns of the means that the context is made of."""

MIDDLE_SCALE = 16.0
"""Pixels, at stride 4, of a predicted offset of 1."""


class Classes(NamedTuple):
    """What classes B images of H x W pixels show, at stride 4.

    logits: (B, classes, H/4, W/4). hidden: (B, width, H/4, W/4), what they are made of.
    """

    logits: Tensor
    hidden: Tensor


class Dense(NamedTuple):
    """All that the head says of B images of H x W pixels: `Classes`, and of the same size (B, 3,
    H/4, W/4) middles: a logit of being the middle of a thing, and x and y from here to the middle
    of the thing here, in `MIDDLE_SCALE`.
    """

    logits: Tensor
    hidden: Tensor
    middles: Tensor


class DenseHead(nn.Module):
    """MobileNetV2's stages from the trunk's finest map on, their context, and a way back up to it.

    The trunk has such stages too, as ImageNet made them, since objects are followed by them; these
    learn the classes. classes: outputs. width: channels on the way up.
    """

    def __init__(self, classes: int, width: int = 96) -> None:
        super().__init__()
        fine, middle, coarse = CHANNELS
        self.stages = nn.ModuleList(
            nn.Sequential(*stages(channels, plan))
            for channels, plan in zip(CHANNELS, (STAGES[2:3], STAGES[3:], DEEP_STAGES), strict=True)
        )
        self.context = Context(DEEPEST, width)
        self.sides = nn.ModuleList(nn.Conv2d(n, width, 1) for n in (coarse, middle, fine))
        self.mixes = nn.ModuleList(Mix(width) for _ in self.sides)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, classes, 1)
        self.middles = nn.Sequential(Mix(width), nn.Conv2d(width, 3, 1))

    def forward(self, finest: Tensor) -> Dense:
        """(B, 24, H/4, W/4), the trunk's map at stride 4 -> Dense."""
        logits, hidden = self.see(finest)
        return Dense(logits, hidden, self.middles(hidden))

    def see(self, finest: Tensor) -> Classes:
        """The classes alone; `middles` of their hidden maps are what is left."""
        levels = [finest]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        x = self.context(levels.pop())
        for level, side, mix in zip(reversed(levels), self.sides, self.mixes, strict=True):
            size = (level.shape[-2], level.shape[-1])
            x = mix(side(level) + F.interpolate(x, size, mode="bilinear", align_corners=False))
        return Classes(self.classify(self.dropout(x)), x)


class Context(nn.Module):
    """Join a map with its means over the whole, its quarters, smaller windows and its rows.

    After pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", 2017, section 3.2).
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(channels, outputs // 2, 1) for _ in CONTEXT_GRIDS)
        self.join = Convolution(channels + outputs // 2 * len(CONTEXT_GRIDS), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for grid, part in zip(CONTEXT_GRIDS, self.parts, strict=True):
            means = F.relu(part(F.adaptive_avg_pool2d(x, grid)))
            maps.append(
                F.interpolate(means, size=x.shape[-2:], mode="bilinear", align_corners=False)
            )
        return F.relu(self.join(torch.cat(maps, 1)))


class Mix(nn.Sequential):
    """Filter each channel (3x3), then mix them (1x1)."""

    def __init__(self, width: int) -> None:
        super().__init__(
            Convolution(width, width, 3, groups=width),
            nn.ReLU(),
            Convolution(width, width, 1),
            nn.ReLU(),
        )
