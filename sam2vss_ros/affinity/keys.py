"""Keys of a frame: the trunk's features, weighed by what tells things apart.

Linear: so little was to be learned that it holds for things that training never showed.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.memory import COARSE, FINE, Reading
from sam2vss_ros.affinity.trunk import CHANNELS
from sam2vss_ros.sam2.weights import load_weights, read_weights

KEY_CHANNELS = 64

Pyramid = tuple[Tensor, Tensor, Tensor]
"""A trunk's (B, C, ., .) maps at strides 4, 8 and 16."""


class KeyNet(nn.Module):
    """Keys at one stride: a linear map of each level, and the direction of their sum.

    stride: pixels from key to key, 4 or 8.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.levels = nn.ModuleList(
            nn.Linear(channels, KEY_CHANNELS, bias=False) for channels in level_channels(stride)
        )
        self.log_length = nn.Parameter(torch.zeros(()))

    def forward(self, pyramid: Pyramid) -> Tensor:
        """(B, h, w, KEY_CHANNELS) keys of one length, about 1."""
        keys: Tensor | None = None
        for maps, level in zip(level_directions(pyramid, self.stride), self.levels, strict=True):
            part = level(maps).permute(0, 3, 1, 2)
            if keys is not None and part.shape != keys.shape:
                size = (keys.shape[-2], keys.shape[-1])
                part = F.interpolate(part, size, mode="bilinear", align_corners=False)
            keys = part if keys is None else keys + part
        assert keys is not None
        return F.normalize(keys, dim=1).permute(0, 2, 3, 1) * self.log_length.exp()


def level_channels(stride: int) -> tuple[int, int, int]:
    """Channels of `level_directions`."""
    fine, middle, coarse = CHANNELS
    return fine * (stride // 4) ** 2, middle, coarse


def level_directions(pyramid: Pyramid, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, h, w, C) features of length 1 at the places of each level, the finest at `stride`.

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


class KeyNets(nn.Module):
    """The keys of both ways to read a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = KeyNet(COARSE.stride), KeyNet(FINE.stride)

    def forward(self, pyramid: Pyramid, reading: Reading) -> Tensor:
        """(B, h, w, KEY_CHANNELS) keys."""
        keys: Tensor = (self.coarse if reading is COARSE else self.fine)(pyramid)
        return keys


def load_keys(path: Path, device: torch.device) -> KeyNets:
    """The networks with the weights of a file, ready for inference.

    Raises ModelUnavailableError for a file that cannot be read or holds something else.
    """
    networks = KeyNets()
    load_weights(networks, read_weights(path), path, "mobile")
    return networks.to(device).eval().requires_grad_(False)
