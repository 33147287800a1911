"""Things that have moved further from one frame to the next than the optical flow could tell.

Where the flow on an object is doubted, what was under its mask is looked for as a whole, far around
where it was. If it is clearly found elsewhere, the flow there is led to where it came from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.classifier import shrunk
from sam2vss_ros.stream.motion import Flow, carried
from sam2vss_ros.transfer import download

DOUBTED = 0.5
"""Mean belief in the flow on an object below which it is looked for."""

REACH = 12
"""Places in each direction that are looked at: of stride 16, three eighths of an image's width."""

FAR = 0.02
"""Similarity lost per place of the way: of two that look alike the nearer is meant."""

CLEARER = 0.06
"""How much more similar the object must be there than along the flow."""

PART = 0.25
"""Share of a place from which it is of a mask."""

LED = 0.3
"""Belief in the flow where it was led: what is there is read, not only carried along."""


def with_leaps(flow: Flow, before: Tensor, now: Tensor, masks: Tensor) -> Flow:
    """The flow, led to where those objects were that it lost; itself where it lost none.

    before, now: (1, C, h, w) keys of length 1 of the last frame and of this one. masks: (B, H, W)
    soft, on the last frame.
    """
    size = (now.shape[-2], now.shape[-1])
    masks = shrunk(masks, size)
    places = flow.at(size, now.device)
    moved = carried(masks, places, "bilinear")
    weights = moved / moved.sum((1, 2), keepdim=True).clamp(min=1e-6)
    figures = download((weights * places[2]).sum((1, 2)), masks.amax((1, 2)))
    belief, most = (part.tolist() for part in figures)
    doubted = [i for i in range(len(masks)) if belief[i] < DOUBTED and most[i] > PART]
    if not doubted:
        return flow
    along = F.cosine_similarity(carried(before[0], places, "bilinear"), now[0], 0)
    led = flow.places.clone()
    for i in doubted:
        way, likeness = _way(before, now, masks[i])
        if likeness >= float((weights[i] * along).sum()) + CLEARER:
            _lead(led, masks[i], way)
    return Flow(led)


def _way(before: Tensor, now: Tensor, mask: Tensor) -> tuple[tuple[int, int], float]:
    """How many places down and across what is under the (h, w) mask has gone, and its mean cosine
    similarity to what is there now."""
    rows, columns = (mask > PART).nonzero().unbind(1)
    share = mask[rows, columns] / mask[rows, columns].sum()
    # Of each place of the thing with all others, then with those around it. (As a convolution each
    # shape of a thing would have a kernel of its own, which its library keeps.)
    alike = (before[0, :, rows, columns].T @ now[0].flatten(1)).unflatten(1, mask.shape)
    alike = F.pad(alike, [REACH] * 4)
    steps = torch.arange(2 * REACH + 1, device=now.device)
    place = torch.arange(len(rows), device=now.device)[:, None, None]
    around = alike[place, (rows[:, None] + steps)[:, :, None], (columns[:, None] + steps)[:, None]]
    likeness = (share[:, None, None] * around).sum(0)
    steps = steps.float() - REACH
    best = int((likeness - FAR * torch.hypot(steps[:, None], steps)).argmax())
    row, column = divmod(best, len(steps))
    return (row - REACH, column - REACH), float(likeness[row, column])


def _lead(places: Tensor, mask: Tensor, way: tuple[int, int]) -> None:
    """Let the flow's (3, H, W) places come from where the (h, w) mask was, where it is now."""
    (height, width), (down, across) = mask.shape, way
    wide = F.pad((mask > PART).float().cpu(), [REACH] * 4)
    here = wide[REACH - down :, REACH - across :][:height, :width]
    here = F.max_pool2d(here[None, None], 3, 1, 1)
    rows, columns = places.shape[1:]
    led = F.interpolate(here, (rows, columns))[0, 0] > 0
    x = (2 * torch.arange(columns) + 1) / columns - 1 - 2 * across / width
    y = (2 * torch.arange(rows) + 1) / rows - 1 - 2 * down / height
    there = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)])
    places[:2, led] = there[:, led]
    places[2, led] = LED
