"""The objects in hand on a frame: who they are, and what the tracker says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam2vss_ros.sam2 import policy
from sam2vss_ros.sam2.masks import above
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.reid import embed
from sam2vss_ros.transfer import upload_index


@dataclass(frozen=True)
class ObjectBatch:
    """Any number of objects, none included.

    tracks, tracked: in one order. embeddings: (A,) of each on this frame, None until it is known.
    """

    tracks: tuple[Track, ...]
    tracked: Tracked
    embeddings: tuple[Tensor | None, ...]

    @staticmethod
    def of(tracks: Sequence[Track], tracked: Tracked) -> ObjectBatch:
        """Objects just tracked or found; `tracked` is in the order of `tracks`."""
        return ObjectBatch(tuple(tracks), tracked, (None,) * len(tracks))

    @staticmethod
    def join(parts: Sequence[ObjectBatch]) -> ObjectBatch:
        """One batch of several, at least one."""
        return ObjectBatch(
            tuple(t for p in parts for t in p.tracks),
            Tracked.join([p.tracked for p in parts]),
            tuple(e for p in parts for e in p.embeddings),
        )

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def masks(self) -> Tensor:
        """(B, h, w) float32 logits on the grid of the tracker's masks."""
        return self.tracked.masks

    def take(self, index: Sequence[int]) -> ObjectBatch:
        """The objects at positions `index`."""
        if list(index) == list(range(len(self))):
            return self
        return ObjectBatch(
            tuple(self.tracks[i] for i in index),
            self.tracked.take(list(index)),
            tuple(self.embeddings[i] for i in index),
        )

    def visible(self) -> ObjectBatch:
        """Those that are seen on this frame."""
        return self.take([i for i, track in enumerate(self.tracks) if track.in_sight])

    def without_overlaps(self) -> ObjectBatch:
        """Every pixel is left to the strongest of those that claim it."""
        return dataclasses.replace(self, tracked=policy.resolve_overlaps(self.tracked))

    def embedded(self, features: FrameFeatures) -> ObjectBatch:
        """The same with the embeddings that were not known yet."""
        new = [i for i, embedding in enumerate(self.embeddings) if embedding is None]
        if not new:
            return self
        masks = self.masks[upload_index(new, self.masks.device)]
        found = embed(features.image.pyramid, features.colours, above(masks))
        known = dict(zip(new, found, strict=True))
        embeddings = tuple(known.get(i, e) for i, e in enumerate(self.embeddings))
        return dataclasses.replace(self, embeddings=embeddings)

    def begun(self, objects: ObjectMemory, features: FrameFeatures) -> ObjectBatch:
        """The same, of objects just found, with their embeddings, which are noted as such."""
        batch = self.embedded(features)
        for track, embedding in zip(batch.tracks, batch.embeddings, strict=True):
            assert embedding is not None
            objects.begin(track, embedding)
        return batch

    def explained(self) -> Tensor:
        """(h, w) bool, pixels that some object claims."""
        return above(self.masks).sum(0) > 0

    def coverage(self) -> float:
        """Share of the pixels that some object claims."""
        return float(self.explained().float().mean())

    def posteriors(self, classes: int) -> Tensor:
        """(B, classes) class probabilities."""
        rows = [track.posterior.probabilities() for track in self.tracks]
        return torch.stack(rows) if rows else torch.zeros(0, classes)
