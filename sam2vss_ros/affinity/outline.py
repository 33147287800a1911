"""From a click or a box to a mask: a small U-Net over the comparisons of `pointing`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.pointing import CUES, Pointers, compare, key_pointed_at, unit_keys
from sam2vss_ros.affinity.trunk import CHANNELS

CHOICES = 3
"""Masks that a prompt may mean, such as a part and the whole."""

METRIC = 16
"""Channels of the learned comparison at stride 16."""

DROPPED = 0.2
"""Share of them that are left out in training, so that others must do as well."""

RING = 9
"""Diameter in places of stride 4 of what counts as around a mask."""


class OutlineNet(nn.Module):
    """From stride 4 to 32 and back to 2; sides may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = nn.Conv2d(CHANNELS[-1], METRIC, 1, bias=False)
        self.down4 = _layer(CUES, 16)
        self.down8 = nn.Sequential(_layer(16, 32, 2), _layer(32, 32))
        self.down16 = nn.Sequential(_layer(32 + METRIC, 64), _layer(64, 64))
        self.down32 = nn.Sequential(_layer(64, 96, 2), _layer(96, 96), _layer(96, 96))
        self.whole = nn.Linear(96, 96)
        self.up16 = _layer(96 + 64, 64)
        self.up8 = _layer(64 + 32, 32)
        self.up4 = _layer(32 + 16, 16)
        self.up2 = nn.Sequential(_layer(16 + 3, 12), nn.Conv2d(12, CHOICES, 3, padding=1))
        self.quality = nn.Sequential(nn.Linear(2 * 16 + 2 + 96, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(
        self, pyramid: tuple[Tensor, Tensor, Tensor], colours: Tensor, pointers: Pointers
    ) -> tuple[Tensor, Tensor]:
        """The masks that B prompts on one image may mean, and how good each is.

        pyramid: (1, C, ., .) maps at strides 4, 8 and 16. colours: (1, 3, h, w) normalised image at
        stride 2. Returns (B, CHOICES, h, w) and (B, CHOICES) logits, of a pixel to be inside and of
        the mask's IoU with what is meant.
        """
        keys = unit_keys(pyramid[2]) * CHANNELS[-1] ** 0.5
        pointed = key_pointed_at(keys, pointers) * CHANNELS[-1] ** 0.5
        metric = self.metric(keys) * self.metric(pointed[..., None, None])
        metric = F.dropout2d(metric, DROPPED, self.training)
        fourth = self.down4(compare(pyramid, colours, pointers))
        eighth = self.down8(fourth)
        pooled = F.avg_pool2d(eighth, 2, ceil_mode=True)
        sixteenth = self.down16(torch.cat([pooled, metric], 1))
        deep = self.down32(sixteenth)
        whole = deep.mean((2, 3))
        deep = deep + self.whole(whole)[..., None, None]
        x = self.up16(_joined(deep, sixteenth))
        x = self.up8(_joined(x, eighth))
        x = self.up4(_joined(x, fourth))
        masks = self.up2(_joined(x, colours.to(x.dtype).expand(len(x), -1, -1, -1)))
        return masks, self._rate(masks.detach(), x.detach(), whole.detach())

    def _rate(self, masks: Tensor, hidden: Tensor, whole: Tensor) -> Tensor:
        """(B, CHOICES): the quality of masks by what is in them, what is around them, the image."""
        soft = F.interpolate(masks.float().sigmoid(), hidden.shape[-2:], mode="area")
        ring = F.max_pool2d(soft, RING, 1, RING // 2) - soft
        inside, around = (_means(hidden.float(), weights) for weights in (soft, ring))
        area = soft.mean((2, 3))
        sure = soft.square().mean((2, 3)) / area.clamp(min=1e-4)
        shape = torch.stack([area.clamp(min=1e-4).log(), sure], -1)
        image = whole.float()[:, None].expand(-1, CHOICES, -1)
        rated: Tensor = self.quality(torch.cat([inside, around, shape, image], -1))
        return rated[..., 0]


def _means(maps: Tensor, weights: Tensor) -> Tensor:
    """(B, K, C): means of (B, C, h, w) maps with each of (B, K, h, w) weights."""
    sums = torch.einsum("bchw,bkhw->bkc", maps, weights)
    return sums / weights.sum((2, 3)).clamp(min=1)[..., None]


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    size = fine.shape[-2:]
    return torch.cat([F.interpolate(coarse, size, mode="bilinear", align_corners=False), fine], 1)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )
