"""The signs by which it is decided whether tracked objects are there (`affinity/presence.py`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.presence import Sign
from sam2vss_ros.sam2.masks import above
from sam2vss_ros.semantics.classifier import shrunk
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.reid import embed
from sam2vss_ros.transfer import download, upload

RING = 3
"""Width of what is around a mask, in places at stride 4."""

MOST_CHANGE = 4.0
"""Logarithms of areas by each other end here, on both sides."""


def looked_at(features: FrameFeatures, batch: ObjectBatch) -> tuple[ObjectBatch, Tensor]:
    """The objects with the embeddings of what is under their masks, and (B, A) those of what is
    around them."""
    fine = features.image.pyramid[0]
    inside = shrunk(above(batch.masks), (fine.shape[-2], fine.shape[-1]))
    masks = torch.cat([inside, _around(inside)])
    under, around = embed(features.image.pyramid, features.colours, masks).chunk(2)
    return dataclasses.replace(batch, embeddings=tuple(under)), around


def signs_of(batch: ObjectBatch, owned: ObjectBatch, around: Tensor) -> Tensor:
    """(B, len(Sign)) float32 of the objects of `looked_at`, with what is `around` them; owned: the
    same without overlaps."""
    areas = download(*(above(b.masks).sum((1, 2)) for b in (batch, owned)))
    claimed, kept = (area.tolist() for area in areas)
    here = torch.stack([e for e in batch.embeddings if e is not None])
    past = _pasts(batch.tracks, here)
    like, alike = (here * past).sum(1), (around * past).sum(1)
    others = (here @ past.T).fill_diagonal_(-1.0).amax(1)
    pixels = batch.masks[0].numel()
    rows = [
        (
            _logarithm(area, track.area),
            _logarithm(area, track.last_area),
            math.log(max(1, area) / pixels),
            own / max(1, area),
            math.log1p(track.missed),
        )
        for track, area, own in zip(batch.tracks, claimed, kept, strict=True)
    ]
    signs = here.new_empty(len(batch), len(Sign))
    signs[:, Sign.LIKE], signs[:, Sign.AROUND], signs[:, Sign.OTHER] = like, alike, others
    signs[:, Sign.CRISP] = batch.tracked.predicted_iou
    signs[:, Sign.PEAK] = batch.tracked.score
    begun = _begun(batch.tracks, here)
    signs[:, Sign.BEGUN] = (here * begun).sum(1)
    signs[:, Sign.USUAL : Sign.MISSED + 1] = upload(torch.tensor(rows), here.device)
    return signs


def likeness_to_past(batch: ObjectBatch) -> Tensor:
    """(B,) cosine similarity of what is seen of objects to their past; 1 where they have none. The
    embeddings of the batch are known."""
    if not len(batch):
        return batch.tracked.score
    here = torch.stack([e for e in batch.embeddings if e is not None])
    return (here * _pasts(batch.tracks, here)).sum(1)


def _pasts(tracks: Sequence[Track], here: Tensor) -> Tensor:
    """(B, A) unit vectors; of what has no past yet, what is seen of it."""
    pasts = [e if t.embedding is None else t.embedding for t, e in zip(tracks, here, strict=True)]
    return F.normalize(torch.stack(pasts), dim=1)


def _begun(tracks: Sequence[Track], here: Tensor) -> Tensor:
    """(B, A) unit vectors of what was found; of what was not, what is seen of it."""
    found = [e if t.begun is None else t.begun for t, e in zip(tracks, here, strict=True)]
    return torch.stack(found)


def _around(inside: Tensor) -> Tensor:
    """(B, h, w) soft rings around soft masks."""
    # Across, then down, a place at a time: the same as a maximum over squares, ten times as fast.
    wider = inside
    for axis in (2, 1):
        side = wider.shape[axis]
        ends = (RING, RING) if axis == 2 else (0, 0, RING, RING)
        shifted = F.pad(wider, ends)
        for step in range(2 * RING + 1):
            wider = torch.maximum(wider, shifted.narrow(axis, step, side))
    return wider - inside


def _logarithm(area: int, before: float) -> float:
    """Of an area by an earlier one, in pixels; 0 where there is none."""
    if not before:
        return 0.0
    return max(-MOST_CHANGE, min(MOST_CHANGE, math.log(max(1, area) / before)))
