"""The second stage: follow the known objects, and move their lives on by a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sam2vss_ros.sam2 import policy
from sam2vss_ros.sam2.masks import above
from sam2vss_ros.sam2.options import RestRule
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stages.presence import likeness_to_past, looked_at, signs_of
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.transfer import download
from sam2vss_ros.types import TrackState

LIKE_ITSELF = 0.6
LIKE_ITSELF_AFTER_BREAK = 0.75
"""Similarity to its past below which what is tracked is not the object: after a break, and where
the tracker does not weigh signs."""


def follow(stream: StreamState, context: FrameContext, features: FrameFeatures) -> ObjectBatch:
    """The objects that are seen on this frame, as they claim their pixels; overlaps stay.

    After a scene cut all objects are lost, after a jump in time or at another image size those
    that do not look like themselves.
    """
    stream.objects.age_lost(context.config)
    active = stream.objects.active()
    if context.stream_break.scene_cut:
        for track in active:
            stream.objects.lose(track)
        return ObjectBatch.of([], stream.tracker.step(features.image, []))
    resting = _rest(stream, context, features, active)
    followed = [track for track in active if track not in resting.tracks]
    slots = [track.slot for track in followed]
    found = stream.tracker.step(features.image, slots, features.flow)
    batch = ObjectBatch.join([ObjectBatch.of(followed, found), resting])
    if stream.tracker.weighs_signs and len(batch):
        batch, owned = _weighed(stream, features, batch)
    else:
        batch = batch.embedded(features)
        owned = batch.without_overlaps()
    _observe(stream, context, batch, owned, rested=len(resting))
    stream.memories.begin(
        context.index, [track.slot for track in active], context.config, context.effort
    )
    _remember(stream, features, owned, resting)
    return batch.visible()


def _weighed(
    stream: StreamState, features: FrameFeatures, batch: ObjectBatch
) -> tuple[ObjectBatch, ObjectBatch]:
    """The objects with their embeddings and with scores by signs; the same without overlaps."""
    batch, around = looked_at(features, batch)
    owned = batch.without_overlaps()
    weighed = stream.tracker.weigh(batch.tracked, signs_of(batch, owned, around))
    return (
        dataclasses.replace(batch, tracked=weighed),
        dataclasses.replace(owned, tracked=dataclasses.replace(weighed, masks=owned.masks)),
    )


def _rest(
    stream: StreamState,
    context: FrameContext,
    features: FrameFeatures,
    active: Sequence[Track],
) -> ObjectBatch:
    """Those that are not followed on this frame; new and hidden objects always are."""
    able = {t.track_id: t for t in active if t.state == TrackState.CONFIRMED and not t.missed}
    rule = None if context.stream_break.suspicious else _rule(stream, context)
    ids, tracked = stream.interleave.rest(list(able), rule, features.flow)
    return ObjectBatch.of([able[i] for i in ids], tracked)


def _rule(stream: StreamState, context: FrameContext) -> RestRule | None:
    if not stream.tracker.may_rest:
        return None
    return context.effort.rest or stream.tracker.options.rest


def _observe(
    stream: StreamState, context: FrameContext, batch: ObjectBatch, owned: ObjectBatch, rested: int
) -> None:
    """Tell the object memory what was seen; the last `rested` were not followed."""
    objects = stream.objects
    suspicious = context.stream_break.suspicious
    there = batch.tracked.score.sigmoid()
    itself = there > 0.5
    if suspicious or not stream.tracker.weighs_signs:
        least = LIKE_ITSELF_AFTER_BREAK if suspicious else LIKE_ITSELF
        alike = likeness_to_past(batch) >= least
        itself = itself & alike if stream.tracker.weighs_signs else alike
    signs = download(
        above(owned.masks).sum((1, 2)).int(),
        batch.tracked.predicted_iou,
        there,
        itself,
    )
    seen = zip(batch.tracks, *(sign.tolist() for sign in signs), strict=True)
    for i, (track, area, predicted_iou, visibility, itself) in enumerate(seen):
        if i >= len(batch) - rested:
            objects.rest(track)
            continue
        objects.rate(track, predicted_iou, visibility)
        if suspicious and not itself:
            objects.lose(track)
        else:
            objects.observe(track, area if itself else 0, context.config)


def _remember(
    stream: StreamState, features: FrameFeatures, owned: ObjectBatch, resting: ObjectBatch
) -> None:
    """Write the memories that are due; what is poor on this frame is due on the next."""
    visible = owned.visible()
    due = [
        i
        for i in policy.worth_remembering(visible.tracked)
        if stream.memories.due(visible.tracks[i].slot) and visible.tracks[i] not in resting.tracks
    ]
    remembered = visible.take(due).tracked
    stream.tracker.commit(features.image, remembered)
    stream.memories.written(remembered.slots)
