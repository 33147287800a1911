"""From a click or a box to a mask: a small U-Net over the comparisons of `pointing`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.borders import redrawn
from sam2vss_ros.affinity.pointing import (
    CUES,
    INSIDE,
    NOWHERE,
    Pointers,
    compare,
    key_pointed_at,
    unit_keys,
)
from sam2vss_ros.affinity.trunk import CHANNELS
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights

CHOICES = 3
"""Masks that a prompt may mean, such as a part and the whole."""

METRIC = 16
"""Channels of the learned comparison at stride 16."""

DROPPED = 0.2
"""Share of them that are left out in training, so that others must do as well."""

RING = 0.06
"""Width of what surrounds a mask, as a share of the image's; twice how far from it that reaches."""

TEXTURE = 0.2
"""How much of the contrast at stride 4 is taken from that at stride 16: what differs in texture
alone may be a part of the thing."""


DOT = 0.01
"""Radius around a point, as a share of the longer side, in which its label holds in any case."""

LEAST_FIT = 0.3
"""Least IoU of a mask's box with the box given; a box that nothing fits is taken as it is."""

SURE = 4.0
"""Logit of what is inside by the user's own word."""


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

    def forward(
        self, pyramid: tuple[Tensor, Tensor, Tensor], colours: Tensor, pointers: Pointers
    ) -> Tensor:
        """The masks that B prompts on one image may mean.

        pyramid: (1, C, ., .) maps at strides 4, 8 and 16. colours: (1, 3, h, w) normalised image at
        stride 2. Returns (B, CHOICES, h, w) logits.
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
        deep = deep + self.whole(deep.mean((2, 3)))[..., None, None]
        x = self.up16(_joined(deep, sixteenth))
        x = self.up8(_joined(x, eighth))
        x = self.up4(_joined(x, fourth))
        masks: Tensor = self.up2(_joined(x, colours.to(x.dtype).expand(len(x), -1, -1, -1)))
        return masks


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    size = fine.shape[-2:]
    return torch.cat([F.interpolate(coarse, size, mode="bilinear", align_corners=False), fine], 1)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


def load_outline(path: Path, device: torch.device) -> OutlineNet:
    """The network with the weights of a file, ready for inference.

    Raises ModelUnavailableError for a file that cannot be read or holds something else.
    """
    network = OutlineNet()
    load_weights(network, read_weights(path), path, "mobile")
    return network.to(device).eval().requires_grad_(False)


def outline(
    network: OutlineNet,
    pyramid: tuple[Tensor, Tensor, Tensor],
    colours: Tensor,
    pointers: Pointers,
) -> tuple[Tensor, Tensor]:
    """The mask that one prompt means: (h, w) float32 logits, and how sure it is, a scalar.

    pyramid, colours: as `OutlineNet` takes them. Of the masks that a prompt may mean it is the one
    that differs most from what surrounds it, or that fits the box. Points end on the side that they
    name; what is not connected with a point inside is left out.
    """
    masks = network(pyramid, colours, pointers)[0].float()
    if pointers.boxed[0]:
        box = _filled(masks[0], pointers.boxes[0])
        mask = _redrawn(_fitting(masks, box, pointers.boxes[0]), colours[0], box > 0)
    else:
        mask = masks[contrast(pyramid, masks.sigmoid()).argmax()]
        mask = _heeding(_redrawn(mask, colours[0]), pointers)
    return mask, _sureness(mask.sigmoid())


def _redrawn(mask: Tensor, colours: Tensor, within: Tensor | None = None) -> Tensor:
    """(h, w) logits, of the opposite sign where the border has moved."""
    inside = redrawn(mask > 0, colours, within)
    return torch.where(inside, mask.abs(), -mask.abs())


def _sureness(soft: Tensor) -> Tensor:
    """How far from one half (..., h, w) soft masks are where they are: 0 to 1."""
    return soft.square().sum((-2, -1)) / soft.sum((-2, -1)).clamp(min=1e-6)


def _fitting(masks: Tensor, filled: Tensor, box: Tensor) -> Tensor:
    """Of (K, h, w) logits those of the mask that a (4,) box means, which ends where the box ends.

    filled: (h, w) logits of the box itself.
    """
    fit = torch.stack([_box_fit(mask > 0, box) for mask in masks])
    if fit.max() < LEAST_FIT:
        return filled
    return torch.minimum(masks[(fit * _sureness(masks.sigmoid())).argmax()], filled)


def contrast(pyramid: tuple[Tensor, Tensor, Tensor], masks: Tensor) -> Tensor:
    """(K,): how much what is in each of (K, h, w) soft masks differs from what is around it."""
    fine, _, coarse = (_difference(unit_keys(level), masks) for level in pyramid)
    return coarse - TEXTURE * fine


def _difference(keys: Tensor, masks: Tensor) -> Tensor:
    """(K,): one minus the similarity of the mean (1, C, h, w) key in a mask to that around it."""
    size = keys.shape[-2:]
    inside = F.interpolate(masks[None], size, mode="area")[0]
    width = max(3, round(RING * size[1]) | 1)
    around = F.max_pool2d(inside[None], width, 1, width // 2)[0] - inside
    one, other = (torch.einsum("chw,khw->kc", keys[0], w) for w in (inside, around))
    return 1 - F.cosine_similarity(one, other, dim=1)


def _box_fit(mask: Tensor, box: Tensor) -> Tensor:
    """IoU of an (h, w) mask's box with a (4,) box in shares of the image."""
    if not mask.any():
        return box.new_zeros(())
    height, width = mask.shape
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    own = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).to(box)
    own = own / box.new_tensor([width, height, width, height])
    low, high = torch.maximum(own[:2], box[:2]), torch.minimum(own[2:], box[2:])
    both = (high - low).clamp(min=0).prod()
    return both / ((own[2:] - own[:2]).prod() + (box[2:] - box[:2]).prod() - both)


def _filled(mask: Tensor, box: Tensor) -> Tensor:
    """Logits of a box itself, in the shape of an (h, w) mask; a pixel at least."""
    height, width = mask.shape
    x0, y0, x1, y1 = (box * box.new_tensor([width, height, width, height])).tolist()
    out = torch.full_like(mask, -SURE)
    left, top = min(int(x0), width - 1), min(int(y0), height - 1)
    out[top : max(round(y1), top + 1), left : max(round(x1), left + 1)] = SURE
    return out


def _heeding(mask: Tensor, pointers: Pointers) -> Tensor:
    """(h, w) logits with dots around the points as labelled, and only the parts they lie on."""
    height, width = mask.shape
    out = mask.cpu().numpy().copy()
    known = pointers.labels[0] != NOWHERE
    places = (pointers.points[0][known].cpu() * torch.tensor([width, height])).numpy()
    inside = (pointers.labels[0][known] == INSIDE).cpu().numpy()
    centres = np.clip(places.astype(int), 0, (width - 1, height - 1))
    radius = round(DOT * max(height, width))
    for label in (False, True):
        opposite = centres[inside != label]
        for centre in centres[inside == label]:
            apart = np.hypot(*(opposite - centre).T).min(initial=2 * radius)
            dot = np.zeros(out.shape, np.uint8)
            cv2.circle(dot, centre.tolist(), int(min(radius, apart / 2 - 1)), 1, -1)
            wrong = (dot > 0) & ((out > 0) != label)
            out[wrong] = SURE if label else -SURE
    _, parts = cv2.connectedComponents((out > 0).astype(np.uint8))
    held = np.isin(parts, parts[centres[inside, 1], centres[inside, 0]])
    return torch.from_numpy(np.where(held, out, np.minimum(out, -SURE))).to(mask.device)
