"""Masks of known things are mended: a car that drives into the picture is completed, for example.

A tracker follows what it was given, and may spill over. Where the dense prediction sees one thing
of an object's class where the object is, but with another outline, the object begins again as that
thing and what else of its mask may be of the class, but for other things of it; what slid off to
road or wall is let go. What moved by itself and is of no countable class, but holds one thing of
such a class, as a pedestrian with a piece of the house behind, begins again as that thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.affinity.discovery import CLEAR
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2.discovery import LEAST_CONFIDENCE, thing_regions
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures, Predicted
from sam2vss_ros.stream.objects import Track, likeness
from sam2vss_ros.stream.reid import assign
from sam2vss_ros.stream.state import StreamState

INSIDE, LEAST_PART = 0.5, 0.2
"""Least share of an object's mask that lies in the thing, and of the thing that the mask covers;
the other way round for objects of no countable class, which may hold the thing."""

ALIKE = 0.85
"""IoU from which a mask is as good as the mended one."""

POSSIBLE = 0.2
"""Probability of its class below which a place outside of the thing is not of the object."""

STUFF = 0.6
"""Mean probability of stuff inside its mask from which an object that stands still is none."""

HELD = 0.5
"""Share of an object's mask inside a candidate from which the candidate may be the whole of it."""

OTHERS = 0.1
"""Share of a thing that others may hold; beyond it the thing may be several."""

ELSEWHERE = 0.1
"""Share of a mask from which it is taken back from other things that do not touch its own."""

TOUCHING = np.ones((5, 5), np.uint8)
"""Around a pixel, those that touch it."""


def let_go(
    perception: Perception, stream: StreamState, features: Predicted, batch: ObjectBatch
) -> ObjectBatch:
    """The objects but for those whose mask slid off to stuff, such as road; these are lost.

    What moves by itself stays, and what a user asked for.
    """
    if features.moving is None or features.familiar < LEAST_CONFIDENCE or not len(batch):
        return batch
    masks = (batch.masks > 0).cpu()
    stuff = features.probabilities.cpu()[torch.from_numpy(stream.words.stuff)].sum(0)
    size = (masks.shape[-1], masks.shape[-2])
    moving = torch.from_numpy(cv2.resize(features.moving.evidence, size))
    areas = masks.sum((1, 2)).clamp(min=1)
    slid = (masks * stuff).sum((1, 2)) / areas >= STUFF
    still = (masks * moving).sum((1, 2)) / areas < CLEAR
    kept = []
    for i, (track, gone) in enumerate(zip(batch.tracks, (slid & still).tolist(), strict=True)):
        if gone and not track.prompted:
            stream.objects.lose(track)
        else:
            kept.append(i)
    return batch.take(kept)


def mend(
    perception: Perception, stream: StreamState, features: Predicted, batch: ObjectBatch
) -> ObjectBatch:
    """The same objects, some with other masks."""
    if features.middles is None or features.familiar < LEAST_CONFIDENCE or not len(batch):
        return batch
    probabilities = features.probabilities.cpu().numpy()
    things = stream.words.things
    regions = thing_regions(probabilities.argmax(0), features.middles(), things)
    masks = (batch.masks > 0).cpu().numpy()
    mended = _mended(batch.tracks, masks, regions, probabilities, things)
    return begin_again(perception, stream, features, batch, mended)


def begin_again(
    perception: Perception,
    stream: StreamState,
    features: FrameFeatures,
    batch: ObjectBatch,
    masks: dict[int, npt.NDArray[np.bool_]],
) -> ObjectBatch:
    """The same objects; those at these positions begin again with other (h, w) masks."""
    if not masks:
        return batch
    index = list(masks)
    tracks = [batch.tracks[i] for i in index]
    found = stream.tracker.from_masks(
        features.image,
        [track.slot for track in tracks],
        torch.from_numpy(np.stack(list(masks.values()))).to(perception.device),
    )
    found = dataclasses.replace(found, predicted_iou=batch.tracked.predicted_iou[index])
    stream.tracker.start(features.image, found)
    others = batch.take([i for i in range(len(batch)) if i not in masks])
    begun = ObjectBatch.of(tracks, found).begun(stream.objects, features)
    return ObjectBatch.join([others, begun])


def wholes(
    batch: ObjectBatch, candidates: Tensor, embeddings: Tensor, config: PipelineConfig
) -> dict[int, Track]:
    """Candidate -> the object in sight of which only a part was followed, and which it is.

    candidates: (N, h, w) bool masks; embeddings: (N, A) of them. Such an object lies inside the
    candidate, which looks like it. What users pointed at stays as it is.
    """
    able = [i for i, t in enumerate(batch.tracks) if t.embedding is not None and not t.prompted]
    if not able or not len(candidates):
        return {}
    masks = (batch.masks[able] > 0).flatten(1).float()
    held = candidates.flatten(1).float() @ masks.T / masks.sum(1).clamp(min=1)
    alike = likeness([batch.tracks[i] for i in able], embeddings).masked_fill(
        held < HELD, -torch.inf
    )
    found = assign(alike, config.revive_similarity, 0.0)
    return {n: batch.tracks[able[i]] for n, i in enumerate(found) if i is not None}


def _mended(
    tracks: Sequence[Track],
    masks: npt.NDArray[np.bool_],
    regions: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float32],
    things: npt.NDArray[np.bool_],
) -> dict[int, npt.NDArray[np.bool_]]:
    """Position -> the new (h, w) mask of each object that needs one.

    masks: (N, h, w). regions: (h, w), the number of the thing at each pixel, 0 for none.
    probabilities: (K, h, w) of the classes. things: (K,), which classes are countable.
    """
    areas = np.bincount(regions.ravel(), minlength=2)
    held = np.stack([np.bincount(regions[m], minlength=len(areas)) for m in masks])
    mended: dict[int, npt.NDArray[np.bool_]] = {}
    for i, (track, mask) in enumerate(zip(tracks, masks, strict=True)):
        number = int(held[i, 1:].argmax()) + 1
        part, area = held[i, number], areas[number]
        alone = held[:, number].sum() - part <= OTHERS * area
        if track.prompted or not (part and alone):
            continue
        thing = regions == number
        class_ = int(track.posterior.probabilities().argmax())
        of_mask, of_thing = INSIDE, LEAST_PART
        if not things[class_]:
            class_ = int(probabilities[:, thing].sum(1).argmax())
            of_mask, of_thing = LEAST_PART, INSIDE
        if part < of_mask * mask.sum() or part < of_thing * area:
            continue
        likely = probabilities[class_]
        elsewhere = mask & _apart(regions, thing)
        whole = thing | (mask & (likely >= POSSIBLE) & ~elsewhere)
        spilled = elsewhere.sum() >= ELSEWHERE * mask.sum()
        wrong = spilled or _iou(mask, whole) < ALIKE
        if likely[thing].mean() >= LEAST_CONFIDENCE and wrong:
            mended[i] = whole
    return mended


def _apart(regions: npt.NDArray[np.int32], thing: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The things of (h, w) `regions` that do not touch this one. What does may be a part of it."""
    apart = np.ones(int(regions.max()) + 1, bool)
    apart[regions[cv2.dilate(thing.view(np.uint8), TOUCHING) > 0]] = False
    apart[0] = False
    return apart[regions]


def _iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
