"""The fifth stage: what and whose each place is, on a grid that is coarser than the image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.fusion import fuse
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.state import FrameContext
from sam2vss_ros.transfer import download, upload


@dataclass(frozen=True)
class Decision:
    """What a frame shows; all maps are (h, w).

    classes: int64, index of the likeliest. confidence: float32, from 0 to 1. owner: int16, which of
    `tracks`, the visible objects; -1 for none. entropy: float32, over the classes in nats; None
    where it was not asked for. familiar: from 0 to 1, what confidences and scores of classes are
    multiplied by.
    """

    classes: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    owner: npt.NDArray[np.int16]
    entropy: npt.NDArray[np.float32] | None
    familiar: float
    tracks: tuple[Track, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the maps."""
        height, width = self.owner.shape
        return height, width

    def along(self, flow: Flow) -> Decision:
        """The same, moved to where it is now: each place takes what was nearest to its source."""
        height, width = self.size
        x, y, _ = flow.at(self.size, torch.device("cpu")).numpy()
        rows, columns = (
            np.rint((place + 1) * side / 2 - 0.5).clip(0, side - 1).astype(np.intp)
            for place, side in ((y, height), (x, width))
        )
        source = rows * width + columns
        return dataclasses.replace(
            self,
            classes=self.classes.take(source),
            confidence=self.confidence.take(source),
            owner=self.owner.take(source),
            entropy=None if self.entropy is None else self.entropy.take(source),
        )


def decide(
    perception: Perception,
    context: FrameContext,
    log_dense: Tensor,
    familiar: float,
    batch: ObjectBatch,
    with_entropy: bool,
) -> Decision:
    """What a frame shows. log_dense: (K, ., .) log probabilities. batch: the visible objects.
    with_entropy: whether the decision has one."""
    fused = fuse(
        context.config.mode,
        log_dense,
        batch.masks,
        upload(batch.posteriors(len(log_dense)), perception.device),
        label_size(perception, context.size, log_dense),
        with_entropy,
    )
    maps = [fused.classes, fused.confidence, fused.owner.short()]
    if fused.entropy is not None:
        maps.append(fused.entropy.float())
    classes, confidence, owner, *entropy = (part.numpy() for part in download(*maps))
    return Decision(
        classes, confidence, owner, entropy[0] if entropy else None, familiar, batch.tracks
    )


def label_size(perception: Perception, size: tuple[int, int], log_dense: Tensor) -> tuple[int, int]:
    """Height and width at which the labels of an image of `size` are decided, then upsampled to it.

    Far beyond the resolution of masks and dense prediction there is nothing to gain.
    """
    grids = zip(perception.mask_size(size), log_dense.shape[-2:], strict=True)
    rows, columns = (2 * max(grid) for grid in grids)
    return min(size[0], rows), min(size[1], columns)
