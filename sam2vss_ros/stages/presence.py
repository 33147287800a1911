"""The signs by which it is decided whether tracked objects are there (`affinity/presence.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.presence import Sign
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


def signs_of(features: FrameFeatures, batch: ObjectBatch, owned: ObjectBatch) -> Tensor:
    """(B, len(Sign)) float32 of the tracked objects; owned: the same without overlaps.

    The embeddings of the batch are known.
    """
    areas = download(*((b.masks > 0).flatten(1).sum(1) for b in (batch, owned)))
    claimed, kept = (area.tolist() for area in areas)
    around = embed(features.image.pyramid, features.colours, _rings(batch.masks > 0, features))
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


def _pasts(tracks: Sequence[Track], here: Tensor) -> Tensor:
    """(B, A) unit vectors; of what has no past yet, what is seen of it."""
    pasts = [e if t.embedding is None else t.embedding for t, e in zip(tracks, here, strict=True)]
    return F.normalize(torch.stack(pasts), dim=1)


def _begun(tracks: Sequence[Track], here: Tensor) -> Tensor:
    """(B, A) unit vectors of what was found; of what was not, what is seen of it."""
    found = [e if t.begun is None else t.begun for t, e in zip(tracks, here, strict=True)]
    return torch.stack(found)


def _rings(masks: Tensor, features: FrameFeatures) -> Tensor:
    """(B, ., .) soft masks of what is around (B, h, w) masks, at stride 4."""
    fine = features.image.pyramid[0]
    inside = shrunk(masks.float(), (fine.shape[-2], fine.shape[-1]))
    # Across, then down: the same as a square, several times as fast.
    wider = F.max_pool2d(inside[:, None], (1, 2 * RING + 1), 1, (0, RING))
    wider = F.max_pool2d(wider, (2 * RING + 1, 1), 1, (RING, 0))[:, 0]
    return wider - inside


def _logarithm(area: int, before: float) -> float:
    """Of an area by an earlier one, in pixels; 0 where there is none."""
    if not before:
        return 0.0
    return max(-MOST_CHANGE, min(MOST_CHANGE, math.log(max(1, area) / before)))
