"""What is pointed at, compared with all of an image: the input of the outline network.

The network sees comparisons, not features: how like every place is to those pointed at, in features
and in colour, how far it is from them, and where the image changes. What it learns of outlines on a
few kinds of things so holds for others.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.types import Prompt

INSIDE, OUTSIDE, NOWHERE = 1, 0, -1
"""Labels of points; what is nowhere only fills a row."""

RADII = (0.02, 0.08, 0.3)
"""Of the bells around points, as shares of the image's longer side."""

MARGIN = 0.01
"""How far from a box, as a share of the image, something is outside for sure."""

FAR = 9.0
"""A squared distance that nothing in an image has."""

CUES = 22
"""Channels of `compare`."""


class Pointers(NamedTuple):
    """B prompts on one image, in shares of its width and height.

    points: (B, N, 2) float32, x and y. labels: (B, N) int64, INSIDE, OUTSIDE or NOWHERE. boxes:
    (B, 4) float32, x0, y0, x1, y1; all zero where there is none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor

    @property
    def boxed(self) -> Tensor:
        """(B,) bool: which of them are boxes."""
        return self.boxes[:, 2] > self.boxes[:, 0]

    def to(self, device: torch.device) -> Pointers:
        """The same on a device."""
        return Pointers(*(part.to(device) for part in self))


def pointers_of(prompt: Prompt, size: tuple[int, int]) -> Pointers:
    """A prompt of points or a box in pixels of an image of `size` (height, width), as a batch."""
    scale = torch.tensor([size[1], size[0]], dtype=torch.float32)
    if prompt.box is not None:
        box = torch.tensor(prompt.box, dtype=torch.float32) / scale.repeat(2)
        points, labels = points_of_box(box)
        return Pointers(points[None], labels[None], box[None])
    assert prompt.points is not None and prompt.point_labels is not None
    points = torch.from_numpy(prompt.points).float() / scale
    labels = torch.from_numpy(prompt.point_labels).long()
    return Pointers(points[None], labels[None], torch.zeros(1, 4))


def points_of_box(box: Tensor) -> tuple[Tensor, Tensor]:
    """What a (4,) box says: the middle is inside, what lies around is outside.

    Returns (9, 2) points and their (9,) labels; what lies beyond the image is NOWHERE.
    """
    sides = box.view(2, 2)
    low, high = sides - MARGIN, sides + MARGIN
    lines = torch.stack([low[0], sides.mean(0), high[1]])  # (3, 2): three columns, three rows
    points = torch.cartesian_prod(lines[:, 0], lines[:, 1])
    labels = torch.where(((points > 0) & (points < 1)).all(1), OUTSIDE, NOWHERE)
    labels[4] = INSIDE
    return points, labels


def compare(pyramid: tuple[Tensor, Tensor, Tensor], colours: Tensor, pointers: Pointers) -> Tensor:
    """(B, CUES, h, w) float32, at the places of stride 4.

    pyramid: (1, C, ., .) maps at strides 4, 8 and 16. colours: (1, 3, ., .) normalised image.
    """
    size = (pyramid[0].shape[-2], pyramid[0].shape[-1])
    keys = [unit_keys(level) for level in pyramid]
    small = F.interpolate(colours.float(), size, mode="area")
    prompt_maps = [
        *(_resized(m, size) for level in keys for m in _likeness(level, pointers)),
        *_likeness_of_colours(small, pointers),
        *_nearness(size, pointers),
        *_boxes(size, pointers),
    ]
    image_maps = [
        *_likeness_to_the_rim(keys[2]),
        *(m for level in keys[:2] for m in changes(level)),
        _changes_of_colours(small),
    ]
    shared = [_resized(m, size).expand(len(pointers.points), -1, -1, -1) for m in image_maps]
    return torch.cat([*prompt_maps, *shared], 1)


def unit_keys(level: Tensor) -> Tensor:
    """(1, C, h, w) features less their mean over the image, each place's of length 1."""
    level = level.float()
    return F.normalize(level - level.mean((2, 3), keepdim=True), dim=1)


def key_pointed_at(keys: Tensor, pointers: Pointers) -> Tensor:
    """(B, C), the mean of the (1, C, h, w) keys of what is inside, of length 1."""
    inside = (pointers.labels == INSIDE)[..., None]
    return F.normalize((_at(keys, pointers.points) * inside).sum(1), dim=1)


def _at(maps: Tensor, points: Tensor) -> Tensor:
    """(B, N, C) values of (1, C, h, w) maps at (B, N, 2) points."""
    grid = (points * 2 - 1).flatten(0, 1)[None, None]
    found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    return found[0, :, 0].T.unflatten(0, points.shape[:2])


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _best(values: Tensor, labels: Tensor, nothing: float) -> list[Tensor]:
    """The highest of (B, N, h, w) values among the points inside, and among those outside."""
    best = []
    for label in (INSIDE, OUTSIDE):
        chosen = (labels == label)[..., None, None]
        best.append(torch.where(chosen, values, nothing).amax(1, keepdim=True))
    return best


def _likeness(keys: Tensor, pointers: Pointers) -> list[Tensor]:
    pointed = F.normalize(_at(keys, pointers.points), dim=-1)
    return _best(torch.einsum("bnc,chw->bnhw", pointed, keys[0]), pointers.labels, -1.0)


def _likeness_of_colours(colours: Tensor, pointers: Pointers) -> list[Tensor]:
    smooth = F.avg_pool2d(colours, 3, 1, 1, count_include_pad=False)
    pointed = _at(smooth, pointers.points)[..., None, None]
    distance = (colours[0] - pointed).square().mean(2)
    return [best.exp() for best in _best(-distance, pointers.labels, -FAR)]


def _nearness(size: tuple[int, int], pointers: Pointers) -> list[Tensor]:
    """Bells around the points, fewer of them around those outside."""
    y, x = _grid(size, pointers.points.device)
    dy = (y - pointers.points[..., 1, None]) * (size[0] / max(size))
    dx = (x - pointers.points[..., 0, None]) * (size[1] / max(size))
    squared = dy.square()[..., :, None] + dx.square()[..., None, :]
    inside, outside = _best(-squared, pointers.labels, -FAR)
    bells = [(inside / (2 * r * r)).exp() for r in RADII]
    return bells + [(outside / (2 * r * r)).exp() for r in RADII[:2]]


def _boxes(size: tuple[int, int], pointers: Pointers) -> list[Tensor]:
    """Where a box is, and whether there is one."""
    y, x = _grid(size, pointers.points.device)
    x0, y0, x1, y1 = (side[:, None] for side in pointers.boxes.unbind(1))
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    within = rows[:, None, :, None] & columns[:, None, None, :]
    boxed = pointers.boxed[:, None, None, None].expand_as(within)
    return [within.float(), boxed.float()]


def _grid(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The middles of rows and columns as shares of the image."""
    y, x = (torch.arange(n, device=device) for n in size)
    return (y + 0.5) / size[0], (x + 0.5) / size[1]


def _likeness_to_the_rim(keys: Tensor) -> list[Tensor]:
    """What is like the rim of the image is background more often than not; and what is like all
    the rest of it."""
    maps = keys[0]
    rim = torch.cat([maps[:, 0], maps[:, -1], maps[:, :, 0], maps[:, :, -1]], 1)
    like = torch.einsum("cn,chw->nhw", rim, maps)
    return [like.topk(3, 0).values[2][None, None], like.mean(0)[None, None]]


def changes(keys: Tensor) -> list[Tensor]:
    """How unlike its neighbours a place is: those at its sides, those above and below."""
    across = 1 - (keys[..., 1:] * keys[..., :-1]).sum(1, keepdim=True)
    along = 1 - (keys[..., 1:, :] * keys[..., :-1, :]).sum(1, keepdim=True)
    return [
        F.pad(across, (1, 0)) + F.pad(across, (0, 1)),
        F.pad(along, (0, 0, 1, 0)) + F.pad(along, (0, 0, 0, 1)),
    ]


def _changes_of_colours(colours: Tensor) -> Tensor:
    across = (colours[..., 1:] - colours[..., :-1]).abs().mean(1, keepdim=True)
    along = (colours[..., 1:, :] - colours[..., :-1, :]).abs().mean(1, keepdim=True)
    return F.pad(across, (0, 1)) + F.pad(along, (0, 0, 0, 1))
