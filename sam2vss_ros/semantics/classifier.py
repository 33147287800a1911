"""Approach 2 of the paper: a feature vector per mask, a small network that classifies it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GEOMETRY = 8


class MaskClassifier(nn.Module):
    """Mask-pooled image features, the object pointer and the mask's geometry -> class logits.

    channels: those of the pyramid and of the pointer; hidden: those of the dense head.
    """

    def __init__(self, channels: int, hidden: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.pool_norm = nn.LayerNorm(3 * channels + hidden)
        self.pointer_norm = nn.LayerNorm(channels)
        self.layers = nn.Sequential(
            nn.Linear(4 * channels + hidden + GEOMETRY, width),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(width, classes),
        )

    def forward(self, pooled: Tensor, pointers: Tensor, geometry: Tensor) -> Tensor:
        """(B, 3 C + hidden), (B, C) and (B, 8) -> (B, classes) logits.

        Pointers of zero mean that there is none: masks that come from another SAM 2 than the one
        this network was trained on.
        """
        known = pointers.any(1, keepdim=True)
        inputs = [self.pool_norm(pooled), self.pointer_norm(pointers) * known, geometry]
        logits: Tensor = self.layers(torch.cat(inputs, 1))
        return logits


def pool_features(maps: tuple[Tensor, ...], masks: Tensor) -> Tensor:
    """Mean features inside (B, S/4, S/4) masks: (B, sum of the maps' channels) float32.

    maps are (1, ., ., .) of one image. Masks that vanish on a coarse map are pooled where they
    touch it.
    """
    weights = masks.float()[:, None]
    pooled = []
    for level in maps:
        side = (level.shape[-2], level.shape[-1])
        share = weights if weights.shape[-2:] == side else F.adaptive_avg_pool2d(weights, side)
        share = share.flatten(1)
        total = share.sum(1, keepdim=True).clamp(min=1e-6)
        pooled.append(share @ level[0].flatten(1).T.float() / total)
    return torch.cat(pooled, 1)


def geometry(masks: Tensor) -> Tensor:
    """Position, spread, extent and size of (B, s, s) masks, each about -1..1: (B, 8) float32."""
    weights = masks.float()
    side = weights.shape[-1]
    area = weights.sum((1, 2)).clamp(min=1)
    place = torch.linspace(-1, 1, side, device=masks.device)
    columns, rows = weights.sum(1), weights.sum(2)
    x, y = columns @ place / area, rows @ place / area
    spread_x = (columns @ place.square() / area - x.square()).clamp(min=0).sqrt()
    spread_y = (rows @ place.square() / area - y.square()).clamp(min=0).sqrt()
    width, height = (columns > 0).sum(1) / side, (rows > 0).sum(1) / side
    fill = area / (width * height * side * side).clamp(min=1)
    size = area.log() / torch.tensor(float(side * side)).log()
    return torch.stack([x, y, spread_x, spread_y, width, height, fill, size], 1)


class Belief:
    """What one object's class has looked like so far: a forgetting mean of log probabilities."""

    def __init__(self, classes: int, fixed_class: int | None = None) -> None:
        self._log = torch.full((classes,), -torch.tensor(float(classes)).log().item())
        self._count = 0
        self._fixed = fixed_class

    def add(self, log_probabilities: Tensor, keep: float) -> None:
        """Take in one frame's (C,) evidence; `keep` is the share of the past that stays.

        Early frames weigh equally, so that the first look does not stick.
        """
        self._count += 1
        keep = min(keep, 1 - 1 / self._count)
        self._log = keep * self._log + (1 - keep) * log_probabilities

    def probabilities(self) -> Tensor:
        """(C,) class probabilities, summing to 1."""
        if self._fixed is not None:
            return F.one_hot(torch.tensor(self._fixed), len(self._log)).float()
        return self._log.softmax(0)
