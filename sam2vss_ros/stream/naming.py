"""What a stream remembers in text space: a running vector of each object, and the last patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.vocabulary.words import Naming
from sam2vss_ros.stream.budget import Effort
from sam2vss_ros.stream.motion import Flow, along
from sam2vss_ros.stream.schedule import SOON

LARGE = 0.05
"""Share of the image from which a larger view of an object counts no more."""

VIEWS = 8
"""An object's vector is about the mean of so many views; older ones fade."""


class RunningVector:
    """The mean of an object's vectors, by weight."""

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self._total = self._largest = 0.0

    def add(self, vector: Tensor, weight: float) -> None:
        """Take in a view: a unit vector (D,) and a weight above 0."""
        self._largest = max(self._largest, weight)
        self._total = min(self._total + weight, VIEWS * self._largest)
        past = vector if self.mean is None else self.mean
        self.mean = past + weight / self._total * (vector - past)


class TextMemory:
    """When a stream's images are looked at by the text model, and what is kept of it.

    An image is looked at every `keyframe_interval` frames, where the stream breaks, when the words
    are others, and where an object is new. Where time is short it is looked at half as often, and a
    new object waits for `SOON` frames since the last look.
    """

    def __init__(self) -> None:
        self._vectors: dict[int, RunningVector] = {}  # by track id
        self._looked: int | None = None
        self._map: Tensor | None = None
        self.looks = 0

    def renamed(self) -> None:
        """There are other words: what was seen stays, what it was called does not."""
        self._looked = self._map = None

    def due(self, index: int, broken: bool, config: PipelineConfig, effort: Effort) -> bool:
        """Whether frame `index` is to be looked at whatever objects there are."""
        if self._looked is None or broken:
            return True
        return index - self._looked >= effort.search_stretch * config.keyframe_interval

    def due_for(self, track_ids: Iterable[int], index: int, effort: Effort) -> bool:
        """Whether it is for the sake of objects that were never looked at."""
        if all(track_id in self._vectors for track_id in track_ids):
            return False
        return effort.early_search or self._looked is None or index - self._looked >= SOON

    def looked(self, index: int, shares: Tensor) -> None:
        """Frame `index` was looked at: (K + 1, h, w) shares of its patches."""
        self._looked, self._map = index, shares
        self.looks += 1

    def carry(self, flow: Flow | None) -> None:
        """Move what the patches showed along the flow to the next frame."""
        if self._map is not None and flow is not None:
            self._map = along(self._map, flow)

    def dense(self, size: tuple[int, int], naming: Naming) -> Tensor:
        """(K + 1, *size) shares by patches and text."""
        if self._map is None:
            return naming.nothing(1).T[:, :, None].expand(-1, *size)
        return F.interpolate(self._map[None], size, mode="bilinear", align_corners=False)[0]

    def learn(self, track_id: int, vector: Tensor, weight: float) -> None:
        """Take in a view of an object: a unit vector (D,), 0 where nothing of it was seen."""
        if weight > 0 and vector.any():
            self._vectors.setdefault(track_id, RunningVector()).add(vector, weight)

    def shares(self, track_ids: Sequence[int], naming: Naming) -> Tensor:
        """(N, K + 1) shares of objects by all that was seen of them."""
        shares = naming.nothing(len(track_ids))
        known = [i for i, track_id in enumerate(track_ids) if track_id in self._vectors]
        if known:
            means = [self._vectors[track_ids[i]].mean for i in known]
            shares[known] = naming.shares(torch.stack([m for m in means if m is not None]))
        return shares

    def keep(self, track_ids: Iterable[int]) -> None:
        """Forget all objects but these."""
        self._vectors = {i: self._vectors[i] for i in track_ids if i in self._vectors}


def weight_of(area: float, predicted_iou: float, visibility: float) -> float:
    """What a view of an object counts. area: its share of the image; others from 0 to 1."""
    return min(area, LARGE) * predicted_iou * visibility
