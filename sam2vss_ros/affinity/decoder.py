"""The mask decoder: what was read from memory is corrected by what the image shows.

Reading copies masks from where frames look alike: it spills over to what looks like the object
beside it, and has holes where the object has changed. SAM 2's decoder takes a mask as a prompt and
looks at the image again (Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024, section
4); so does this small U-Net, in a window around each object. Like the outline network it sees
comparisons, not features, and so holds for things that training never showed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.object_pointers import sampled
from sam2vss_ros.packing import Convolution, folded, pack
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights

WINDOW = 64
"""Places on the side of a window, whatever its size in the image; comparisons have half of them."""

MARGIN = 1.5
"""Side of a window by the longer side of what it is around."""

LEAST_SIDE = 32
"""Mask pixels on the side of the smallest window."""

MASKS, COLOURS = 3, 3
"""Channels as fine as the window: logits of what was read, of the last mask along the flow and of
the strongest other object; and the image."""

CUES = 14
"""Channels half as fine: `ObjectPointers.likeness`, and `TrunkFeatures.changes`."""

UNIT = 4.0
"""What a logit of 1 is in the network."""

SUREST = 9.0
"""Logits end here, on both sides."""


class Windows(NamedTuple):
    """Squares in an image, in mask pixels: left, top and side, each (B,) float32."""

    left: Tensor
    top: Tensor
    side: Tensor

    @staticmethod
    def around(masks: Tensor) -> Windows:
        """Of (B, h, w) bool masks, none of which is empty."""
        (left, right), (top, bottom) = _ends(masks.any(1)), _ends(masks.any(2))
        side = (MARGIN * torch.maximum(bottom - top, right - left)).clamp(min=LEAST_SIDE)
        return Windows((left + right - side) / 2, (top + bottom - side) / 2, side)

    def grid(self, places: int, size: tuple[int, int]) -> Tensor:
        """(B, places, places, 2) for `grid_sample` of maps of an image whose masks are of `size`
        (height, width)."""
        steps = (torch.arange(places, device=self.side.device) + 0.5) / places
        along = self.side[:, None] * steps
        x = (self.left[:, None] + along) / size[1] * 2 - 1
        y = (self.top[:, None] + along) / size[0] * 2 - 1
        rows, columns = y[:, :, None], x[:, None, :]
        return torch.stack(torch.broadcast_tensors(columns, rows), 3)


class Seen(NamedTuple):
    """What the network sees of B objects.

    fine: (B, MASKS + COLOURS, WINDOW, WINDOW); the first channel is what was read. cues: (B, CUES,
    WINDOW / 2, WINDOW / 2).
    """

    fine: Tensor
    cues: Tensor


class MaskDecoder(nn.Module):
    """`Seen` -> (B, WINDOW, WINDOW), what the logits of what was read change by; nothing, before
    training."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = _layer(MASKS + COLOURS, 24, 2)
        self.joined = _layer(24 + CUES, 32)
        self.down4 = nn.Sequential(_layer(32, 40, 2), _layer(40, 40))
        self.down8 = nn.Sequential(_layer(40, 56, 2), _layer(56, 56), _layer(56, 56))
        self.whole = nn.Linear(56, 56)
        self.up4 = _layer(56 + 40, 40)
        self.up2 = _layer(40 + 32, 16)
        self.up1 = _layer(16 + MASKS + COLOURS, 8)
        self.change = nn.Conv2d(8, 1, 3, padding=1)
        nn.init.zeros_(self.change.weight)
        nn.init.constant_(self.change.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, seen: Seen) -> Tensor:
        fine, cues = (_laid_out(part, self.whole.weight.dtype) for part in seen)
        second = self.joined(torch.cat([self.masks(fine), cues], 1))
        fourth = self.down4(second)
        eighth = self.down8(fourth)
        eighth = eighth + self.whole(eighth.mean((2, 3)))[..., None, None]
        x = self.up4(_doubled(eighth, fourth))
        x = self.up2(_doubled(x, second))
        x = self.up1(_doubled(x, fine))
        change: Tensor = UNIT * self.change(x)[:, 0].float()
        return change


def _laid_out(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """As convolutions take them fastest."""
    return maps.to(dtype, memory_format=torch.channels_last)


def _doubled(coarse: Tensor, fine: Tensor) -> Tensor:
    larger = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([larger, fine], 1)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Convolution(inputs, outputs, 3, stride), nn.ReLU())


def load_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> MaskDecoder:
    """The network with the weights of a file, ready for inference in `dtype`.

    Raises ModelUnavailableError for a file that cannot be read or holds something else.
    """
    trained = MaskDecoder()
    load_weights(trained, read_weights(path), path, "mobile")
    network = folded(trained).to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pack(network)
    return network


def see(
    colours: Tensor,
    changes: tuple[Tensor, Tensor],
    likeness: list[Tensor],
    read: Tensor,
    carried: Tensor,
    others: Tensor,
    windows: Windows,
) -> Seen:
    """What the network sees of B objects in their windows.

    colours, changes: of the image, as `TrunkFeatures` has them. likeness: to the objects,
    `ObjectPointers.likeness`. read: (B, h, w) logits; carried: (B, h, w) soft masks of the last
    frame, moved along the flow; others: (B, h, w) logits of `strongest_other`.
    """
    size = (read.shape[-2], read.shape[-1])
    masks = torch.stack([read, carried.logit(1e-4), others], 1).clamp(-SUREST, SUREST) / UNIT
    grid, coarse = windows.grid(WINDOW, size), windows.grid(WINDOW // 2, size)
    fine = torch.cat([sampled(masks, grid), sampled(colours.float(), grid)], 1)
    return Seen(fine, torch.cat([sampled(m, coarse) for m in (*likeness, *changes)], 1))


def strongest_other(logits: Tensor, objects: list[int]) -> Tensor:
    """(objects, h, w): at each pixel the highest of (B, h, w) logits but for the object's own."""
    first = torch.full_like(logits[0], -SUREST)
    second = first.clone()
    for own in logits:
        torch.maximum(second, torch.minimum(first, own), out=second)
        torch.maximum(first, own, out=first)
    return torch.where(logits[objects] == first, second, first)


def spread(change: Tensor, windows: Windows, size: tuple[int, int]) -> Tensor:
    """(B, h, w) maps of an image whose masks are of `size`: 0 but in windows, where they are as (B,
    WINDOW, WINDOW) says."""
    height, width = size
    maps = change.new_zeros(len(change), height, width)
    for i, (left, top, side) in enumerate(torch.stack(windows, 1).tolist()):
        # Pixels whose middles are inside.
        rows = range(max(0, math.ceil(top - 0.5)), min(height, math.ceil(top + side - 0.5)))
        columns = range(max(0, math.ceil(left - 0.5)), min(width, math.ceil(left + side - 0.5)))
        down = (torch.tensor(rows, device=change.device) + 0.5 - top) / side
        across = (torch.tensor(columns, device=change.device) + 0.5 - left) / side
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), 2)[None] * 2 - 1
        inside = sampled(change[i][None, None], grid)[0, 0]
        maps[i, rows.start : rows.stop, columns.start : columns.stop] = inside
    return maps


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of (B, n) the first that is set, and the one after the last."""
    first = line.int().argmax(1).float()
    return first, line.shape[1] - line.flip(1).int().argmax(1).float()
