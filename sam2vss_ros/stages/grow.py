"""Things that were seen in part are completed: a car that drives into the picture, for example.

A tracker follows what it was given. Where the dense prediction now sees one thing of an object's
class, of which the object is a part, the whole thing becomes the object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2.discovery import LEAST_CONFIDENCE, thing_regions
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.state import StreamState

INSIDE = 0.7
"""Least share of an object that lies in a thing of which it is a part."""

LEAST_PART, MOST_PART = 0.2, 0.85
"""Shares of a thing between which its part is completed."""

OTHERS = 0.1
"""Share of a thing that others may hold; beyond it the thing may be several."""


def grow(
    perception: Perception, stream: StreamState, features: FrameFeatures, batch: ObjectBatch
) -> ObjectBatch:
    """The same objects, those that were parts as the whole things they belong to."""
    if features.middles is None or not len(batch):
        return batch
    wholes = _wholes(
        batch.tracks,
        (batch.masks > 0).cpu().numpy(),
        thing_regions(features.view(), perception.catalog.things),
        *(t.cpu().numpy() for t in features.probabilities.max(0)),
    )
    if not wholes:
        return batch
    index = list(wholes)
    tracks = [batch.tracks[i] for i in index]
    found = stream.tracker.from_masks(
        features.image,
        [track.slot for track in tracks],
        torch.from_numpy(np.stack(list(wholes.values()))).to(perception.device),
    )
    found = dataclasses.replace(found, predicted_iou=batch.tracked.predicted_iou[index])
    stream.tracker.start(features.image, found)
    others = batch.take([i for i in range(len(batch)) if i not in wholes])
    return ObjectBatch.join([others, ObjectBatch.of(tracks, found)])


def _wholes(
    tracks: Sequence[Track],
    masks: npt.NDArray[np.bool_],
    regions: npt.NDArray[np.int32],
    sure: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
) -> dict[int, npt.NDArray[np.bool_]]:
    """Position -> the (h, w) whole of each object that is a part of one thing.

    masks: (N, h, w). regions: (h, w), the number of the thing at each pixel, 0 for none. sure,
    classes: (h, w), probability and index of the likeliest class.
    """
    areas = np.bincount(regions.ravel())
    held = np.stack([np.bincount(regions[m], minlength=len(areas)) for m in masks])
    wholes: dict[int, npt.NDArray[np.bool_]] = {}
    for i, track in enumerate(tracks):
        number = int(held[i, 1:].argmax()) + 1 if len(areas) > 1 else 0
        part, area = held[i, number], areas[number]
        if (
            number
            and not track.prompted
            and part >= INSIDE * masks[i].sum()
            and LEAST_PART * area <= part <= MOST_PART * area
            and held[:, number].sum() - part <= OTHERS * area
        ):
            whole = regions == number
            likeliest = int(track.posterior.probabilities().argmax())
            if sure[whole].mean() >= LEAST_CONFIDENCE and classes[whole][0] == likeliest:
                wholes[i] = whole | masks[i]
    return wholes
