"""Approach 2 of the paper: a feature vector per mask, a small network that classifies it.

The vector was chosen by ablation (see the model card): the mean features of the dense head inside
the mask and in a ring round it, and geometry. SAM 2's own levels, the boundary and the object
pointer add nothing to them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.sam2.masks import above

GEOMETRY = 8


RING = 16
"""The context of a mask is a ring round it, a sixteenth of the longer side of the image wide."""


class MaskClassifier(nn.Module):
    """What a mask shows, what is round it, and its geometry -> class logits.

    hidden: channels of the dense head's features. It is trained to say which share of the mask
    each class has, so that its scores also say how pure the mask is.
    """

    def __init__(self, hidden: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * hidden)
        self.layers = nn.Sequential(
            nn.Linear(2 * hidden + GEOMETRY, width),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Linear(width, classes),
        )

    def forward(self, hidden: Tensor, masks: Tensor) -> Tensor:
        """(1, hidden, ., .) of one image and (B, h, w) masks -> (B, classes) logits."""
        size = (hidden.shape[-2], hidden.shape[-1])
        inside = shrunk(masks.float(), size)
        reach = max(size) // RING
        # Counted by matrix products: several times as fast on a CPU as looking for the greatest.
        down, across = (_band(n, reach, inside.device) for n in size)
        ring = above(down @ (inside @ across)).sub_(above(inside))
        features = pool_features((hidden,), torch.cat([inside, ring]))
        features = torch.cat([*features.chunk(2)], 1)
        logits: Tensor = self.layers(torch.cat([self.norm(features), geometry(masks)], 1))
        return logits


def _band(side: int, reach: int, device: torch.device) -> Tensor:
    """(side, side), 1 where two places are within reach of each other."""
    place = torch.arange(side, device=device)
    return ((place[:, None] - place).abs() <= reach).float()


def pool_features(maps: tuple[Tensor, ...], masks: Tensor) -> Tensor:
    """Mean features inside B masks of any size: (B, sum of the maps' channels) float32.

    maps are (1, ., ., .) of one image, none finer than the one before. Masks that vanish on a
    coarse map are pooled where they touch it; those that are empty pool to 0.
    """
    shares = masks.float()
    pooled = []
    for level in maps:
        shares = shrunk(shares, (level.shape[-2], level.shape[-1]))
        share = shares.flatten(1)
        total = share.sum(1, keepdim=True).clamp(min=1e-6)
        pooled.append(share @ level[0].flatten(1).T.float() / total)
    return torch.cat(pooled, 1)


def shrunk(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) soft masks by mean at a size (height, width) that is not larger."""
    if masks.shape[-2:] == size:
        return masks
    if masks.shape[-2:] != (2 * size[0], 2 * size[1]):
        return F.adaptive_avg_pool2d(masks[:, None], size)[:, 0]
    rows = masks[:, ::2] + masks[:, 1::2]  # several times as fast on a CPU
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def geometry(masks: Tensor) -> Tensor:
    """Position, spread, extent and size of (B, h, w) masks, each about -1..1: (B, 8) float32."""
    weights = masks.float()
    h, w = weights.shape[-2:]
    area = weights.sum((1, 2)).clamp(min=1)
    across, down = (torch.linspace(-1, 1, n, device=masks.device) for n in (w, h))
    columns, rows = weights.sum(1), weights.sum(2)
    x, y = columns @ across / area, rows @ down / area
    spread_x = (columns @ across.square() / area - x.square()).clamp(min=0).sqrt()
    spread_y = (rows @ down.square() / area - y.square()).clamp(min=0).sqrt()
    width, height = (columns > 0).sum(1) / w, (rows > 0).sum(1) / h
    fill = area / (width * height * w * h).clamp(min=1)
    size = area.log() / torch.tensor(float(w * h)).log()
    return torch.stack([x, y, spread_x, spread_y, width, height, fill, size], 1)
