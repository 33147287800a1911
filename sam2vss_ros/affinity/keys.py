"""Keys of a frame: features of the trunk, by which its places are compared with those of others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.memory import COARSE, FINE
from sam2vss_ros.affinity.trunk import CHANNELS
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights

Pyramid = tuple[Tensor, Tensor, Tensor]
"""A trunk's (B, C, ., .) maps at strides 4, 8 and 16."""

LEVEL_CHANNELS = (4 * CHANNELS[0], *CHANNELS[1:])
"""Of `directions` at stride 8, where the finest level has four places in one."""


class KeyNet(nn.Module):
    """Keys: a linear map of each level, and the direction of their sum.

    Linear: so little was to be learned that it holds for things that training never showed. levels:
    of coarse keys, learned. fine: of fine keys, principal components, since small things are
    followed worse by what training finds on stills.
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = _maps(LEVEL_CHANNELS, COARSE.channels)
        self.fine = _maps(CHANNELS, FINE.channels)

    def forward(self, pyramid: Pyramid) -> Tensor:
        """(B, h, w, C) keys of length 1, at stride 8."""
        return _summed(directions(pyramid, COARSE.stride), self.levels)

    def fine_keys(self, pyramid: Pyramid) -> Tensor:
        """(B, h, w, C) keys of length 1, at stride 4."""
        return _summed(directions(pyramid, FINE.stride), self.fine)


def _maps(inputs: Iterable[int], outputs: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(channels, outputs, bias=False) for channels in inputs)


def _summed(levels: Pyramid, maps: nn.ModuleList) -> Tensor:
    total, *coarser = (mapped(level) for level, mapped in zip(levels, maps, strict=True))
    for part in coarser:
        total = total + resampled(part, total)
    return F.normalize(total, dim=3)


def plain_keys(pyramid: Pyramid, stride: int) -> Tensor:
    """(B, h, w, C) keys of length 1: the features of all levels, as they are."""
    levels = directions(pyramid, stride)
    parts = [F.normalize(resampled(level, levels[0]), dim=3) for level in levels]
    return torch.cat(parts, 3) / len(parts) ** 0.5


def directions(pyramid: Pyramid, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, h, w, C) features of length 1 at each level's own places, the finest at `stride`.

    Channels lose their mean over the image: what is everywhere tells nothing. At stride 8, the
    finest level hands over its four places as channels of their own.
    """
    # With the channels last, as the trunk leaves them: ten times as fast on a CPU.
    maps = [level.to(torch.float32, memory_format=torch.channels_last) for level in pyramid]
    maps = [(level - level.mean((2, 3), keepdim=True)).permute(0, 2, 3, 1) for level in maps]
    if stride == 8:
        squares = maps[0].unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        maps[0] = squares.transpose(2, 3).flatten(3)
    fine, middle, coarse = (F.normalize(level, dim=3) for level in maps)
    return fine, middle, coarse


def resampled(level: Tensor, like: Tensor) -> Tensor:
    """(B, ., ., C) maps on the grid of others."""
    size = (like.shape[1], like.shape[2])
    if level.shape[1:3] == size:
        return level
    maps = F.interpolate(level.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return maps.permute(0, 2, 3, 1)


def load_keys(path: Path, device: torch.device) -> KeyNet:
    """The network with the weights of a file, ready for inference.

    Raises ModelUnavailableError for a file that cannot be read or holds something else.
    """
    network = KeyNet()
    load_weights(network, read_weights(path), path, "mobile")
    return network.to(device).eval().requires_grad_(False)
