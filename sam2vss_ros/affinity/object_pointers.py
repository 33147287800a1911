"""Object pointers: what the objects of a stream look like, and where an image looks like that.

SAM 2's object pointer is a vector that its decoder makes. Here it is made of the trunk's features:
of keys of length 1, which are compared, at three strides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.trunk import CHANNELS

Keys = tuple[Tensor, Tensor, Tensor]
"""`pointing.unit_keys` of a trunk's maps of one image."""

SAMPLES = 24
"""Places in an object, and around it, that are remembered from where it began."""

KEEP = 0.95
"""Share of the past that stays in the means from frame to frame."""

REACH = 3
"""How far around a mask its surroundings are, in places at stride 4."""


class ObjectPointers:
    """Of each of `slots` objects, in it and around it: the mean key, which follows what is seen,
    and, at strides 8 and 16, the keys of SAMPLES places where it began.

    The memory is taken at once.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self._means = torch.zeros(slots, 2, sum(CHANNELS), device=device)
        self._samples = torch.zeros(slots, 2, SAMPLES, sum(CHANNELS[1:]), device=device)

    def nbytes(self) -> int:
        """Bytes of the tensors, constant."""
        return self._means.nbytes + self._samples.nbytes

    def begin(self, objects: Tensor, keys: Keys, masks: Tensor) -> None:
        """Objects, (B,) int64, begin with (B, h, w) masks on the image of `keys`."""
        areas = _inside_and_around(masks, keys)
        self._means[objects] = _means(areas, keys)
        grid = _places(areas)
        found = [sampled(level, grid).permute(0, 2, 3, 1) for level in keys[1:]]
        self._samples[objects] = torch.cat([F.normalize(level, dim=3) for level in found], 3)

    def learn(self, objects: Tensor, keys: Keys, masks: Tensor) -> None:
        """Objects were seen with these masks."""
        seen = _means(_inside_and_around(masks, keys), keys)
        self._means[objects] = self._means[objects].lerp(seen, 1 - KEEP)

    def contrast(self, objects: Tensor) -> Tensor:
        """(B,): how much objects differ from what is around them: 1 less the mean similarity of
        both over the levels, 0 where nothing is seen."""
        inside, around = (part.split(CHANNELS, 1) for part in self._means[objects].unbind(1))
        levels = zip(inside, around, strict=True)
        alike = [F.cosine_similarity(one, other, dim=1) for one, other in levels]
        seen = self._means[objects].abs().amax((1, 2)) > 0
        return (1 - torch.stack(alike).mean(0)) * seen

    def likeness(self, objects: Tensor, keys: Keys) -> list[Tensor]:
        """Where the image of `keys` is like the objects and like what is around them, -1 to 1.

        At stride 4 (B, 2, ., .), to the means; at strides 8 and 16 (B, 4, ., .), also to the most
        similar of the places.
        """
        means = [F.normalize(m, dim=2) for m in self._means[objects].split(CHANNELS, 2)]
        samples = self._samples[objects].split(CHANNELS[1:], 3)
        maps = [_compared(mean, level) for mean, level in zip(means, keys, strict=True)]
        for i, (places, level) in enumerate(zip(samples, keys[1:], strict=True), start=1):
            near = _compared(places.flatten(1, 2), level).unflatten(1, (2, SAMPLES)).amax(2)
            maps[i] = torch.cat([maps[i], near], 1)
        return maps


def sampled(maps: Tensor, grid: Tensor) -> Tensor:
    """(B, C, h, w) of (1 or B, C, ., .) maps at the (B, h, w, 2) places of a grid, bilinearly."""
    maps = maps.expand(len(grid), -1, -1, -1)
    return F.grid_sample(maps, grid, "bilinear", "border", align_corners=False)


def _compared(vectors: Tensor, level: Tensor) -> Tensor:
    """(B, N, h, w) of (B, N, C) vectors and (1, C, h, w) keys."""
    return (vectors.flatten(0, 1) @ level[0].flatten(1)).view(*vectors.shape[:2], *level.shape[2:])


def _inside_and_around(masks: Tensor, keys: Keys) -> Tensor:
    """(B, 2, ., .) at stride 4: soft masks of the objects, and rings around them."""
    inside = F.interpolate(masks[:, None].float(), keys[0].shape[-2:], mode="bilinear")
    side = 2 * REACH + 1
    wide = F.max_pool2d(F.max_pool2d(inside, (1, side), 1, (0, REACH)), (side, 1), 1, (REACH, 0))
    return torch.cat([inside, wide - inside], 1)


def _means(areas: Tensor, keys: Keys) -> Tensor:
    """(B, 2, C) mean keys of all levels in (B, 2, ., .) areas."""
    means = []
    for level in keys:
        weights = F.interpolate(areas, level.shape[-2:], mode="area").flatten(2)
        means.append(F.normalize(weights @ level[0].flatten(1).T, dim=2))
    return torch.cat(means, 2)


def _places(areas: Tensor) -> Tensor:
    """(B, 2, SAMPLES, 2) places for `grid_sample`, spread evenly over (B, 2, h, w) areas."""
    height, width = areas.shape[2:]
    total = areas.flatten(2).cumsum(2)
    wanted = (torch.arange(SAMPLES, device=areas.device) + 0.5) / SAMPLES * total[..., -1:]
    index = torch.searchsorted(total, wanted).clamp(max=height * width - 1)
    x, y = index % width + 0.5, index // width + 0.5
    return torch.stack([x / width, y / height], 3) * 2 - 1
