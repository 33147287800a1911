"""Discovery: masks of what no object explains yet, from a point grid or from dense regions.

Both sources work on the features the tracker has anyway, at the masks' own quarter resolution.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2 import functional
from sam2vss_ros.semantics.instances import divided
from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.stream.movers import Moving

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

DUPLICATE_IOU = 0.7
"""Two masks that overlap more are one object (upstream's automatic_mask_generator)."""

POINTS_PER_BATCH = 64

LEAST_CONFIDENCE = 0.5
"""Mean class probability, as far as it is believed, that makes a region an object."""


@dataclass(frozen=True)
class Candidates:
    """masks: (N, h, w) bool, best first; score: (N,) from 0 to 1."""

    masks: Tensor
    score: Tensor


class View(NamedTuple):
    """What a search sees of a frame.

    features: the tracking model's. probabilities: (K, h, w) dense class probabilities on the grid
    of the tracker's masks. middles: the head's (3, ., .) `Dense.middles`, where it was asked.
    moving: what moves by itself, where the options ask for it. familiar: from 0 to 1, how far the
    probabilities are to be believed.
    """

    features: Any
    probabilities: Tensor
    middles: Tensor | None = None
    moving: Moving | None = None
    familiar: float = 1.0


class Source(Protocol):
    """Where new objects come from."""

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        """Find masks on one frame, best first.

        unexplained: (h, w) bool, pixels that no object owns; config: the options that hold for this
        frame.
        """


class GridSource:
    """A regular point grid, the paper's way: 16 x 16 points, filtered by quality and stability."""

    def __init__(self, network: SAM2Base) -> None:
        self._network = network

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        side, count = self._network.image_size, config.points_per_side
        centres = (torch.arange(count, device=unexplained.device) + 0.5) * side / count
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).flatten(0, 1)
        cells = (grid / 4).long()
        points = grid[unexplained[cells[:, 1], cells[:, 0]]]
        if not len(points):
            return Candidates(unexplained.new_zeros(0, *unexplained.shape), centres.new_zeros(0))
        parts = points.split(POINTS_PER_BATCH)
        found = [self._decode(view.features, part, config) for part in parts]
        masks = torch.cat([m for m, _ in found])
        score = torch.cat([s for _, s in found])
        order = score.argsort(descending=True)
        return Candidates(masks[order], score[order])

    def _decode(
        self, features: functional.ImageFeatures, points: Tensor, config: PipelineConfig
    ) -> tuple[Tensor, Tensor]:
        """Decode points to the (K, S/4, S/4) bool masks that pass the thresholds, with scores."""
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
        pixels = functional.without_memory(self._network, features)
        decoded = functional.decode(
            self._network,
            pixels,
            features.high_res,
            (points[:, None], labels),
        )
        logits, ious = decoded.masks[:, 1:].flatten(0, 1), decoded.ious[:, 1:].flatten()
        offset = config.stability_score_offset
        inner = (logits > offset).flatten(1).sum(1)
        outer = (logits > -offset).flatten(1).sum(1)
        stability = inner / outer.clamp(min=1)
        good = (ious >= config.pred_iou_thresh) & (stability >= config.stability_score_thresh)
        return logits[good] > 0, ious[good].float()


class RegionSource:
    """Connected regions of the dense prediction, countable things first, then by size.

    Regions of several things are divided by their middles.

    things: (K,) bool, which classes are countable. stuff: regions of the others are objects, too.
    """

    def __init__(self, things: np.ndarray, stuff: bool = True) -> None:
        self._things = things
        self._stuff = stuff

    def propose(self, view: View, unexplained: Tensor, config: PipelineConfig) -> Candidates:
        best, label = (t.cpu().numpy() for t in view.probabilities.max(0))
        # Opening drops the slivers between the masks of neighbouring objects.
        free = cv2.morphologyEx(
            unexplained.cpu().numpy().astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )
        regions = thing_regions(label, view.middles, self._things, free > 0, stuff=self._stuff)
        # Who asks for all regions wants them in any scene.
        believed = 1.0 if self._stuff else view.familiar
        found: list[tuple[bool, int, float, np.ndarray]] = []
        for number, area in enumerate(areas_of(regions).tolist()[1:], 1):
            mask = regions == number
            score = believed * float(best[mask].mean())
            if score >= LEAST_CONFIDENCE:
                found.append((bool(self._things[label[mask][0]]), area, score, mask))
        found.sort(key=lambda r: (r[0], r[1]), reverse=True)
        shape = unexplained.shape
        masks = np.stack([r[3] for r in found]) if found else np.zeros((0, *shape), bool)
        return Candidates(
            torch.from_numpy(masks).to(unexplained.device),
            torch.tensor([r[2] for r in found], device=unexplained.device),
        )


def thing_regions(
    label: npt.NDArray[np.integer],
    middles: Tensor | None,
    things: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_] | None = None,
    *,
    stuff: bool = False,
) -> npt.NDArray[np.int32]:
    """(h, w) int32: the number of the thing, by the dense prediction, at each pixel; 0 for none.

    label: (h, w) class index. middles: as in `View`. things: (K,), which classes are countable.
    inside: (h, w), where to look; None: everywhere.
    stuff: connected regions of other classes get numbers, too.
    """
    countable = things[label]
    wanted = np.ones_like(countable) if stuff else countable
    regions = connected_regions(label, wanted if inside is None else wanted & inside)
    if middles is None:
        return regions
    return divided(regions, countable, middles.float().cpu().numpy())


def select(candidates: Candidates, unexplained: Tensor, least_area: int, most: int) -> Candidates:
    """Keep at most `most` candidates that are new, big enough and not twice the same object.

    A mask is new when most of it is unexplained; `least_area` counts quarter-resolution pixels.
    """
    flat = candidates.masks.flatten(1).float()
    areas = flat.sum(1)
    free = flat @ unexplained.flatten().float()
    fits = (areas >= least_area) & (free > 0.5 * areas)
    index = fits.nonzero()[:, 0]
    kept = without_duplicates(candidates.masks[index], range(len(index)))[:most]
    chosen = index[kept]
    return Candidates(candidates.masks[chosen], candidates.score[chosen])


def without_duplicates(masks: Tensor, order: Iterable[int]) -> list[int]:
    """Go through (N, h, w) bool masks in an order and keep those that are not one kept before."""
    flat = masks.flatten(1).float()
    areas, overlap = flat.sum(1), flat @ flat.T
    iou = overlap / (areas[:, None] + areas[None] - overlap).clamp(min=1)
    same = (iou > DUPLICATE_IOU).cpu().numpy()  # one copy, where the loop would wait for each
    kept: list[int] = []
    for i in order:
        if not same[i, kept].any():
            kept.append(i)
    return kept
