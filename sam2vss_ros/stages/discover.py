"""The third stage: objects that users point at, and on keyframes those not found yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import torch
from torch import Tensor

from sam2vss_ros.affinity.discovery import CLEAR
from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2.discovery import LEAST_CONFIDENCE, Source, select, without_duplicates
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.pointing import region_at
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures, Predicted
from sam2vss_ros.stages.mend import let_go, mend, wholes
from sam2vss_ros.stages.part import part
from sam2vss_ros.stream.objects import Track
from sam2vss_ros.stream.reid import embed
from sam2vss_ros.stream.requests import PlacedPrompt, Requests
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.transfer import download
from sam2vss_ros.types import TrackState

COARSER = 4
"""Every so many pixels are looked at on the frames between searches."""


def discover(
    perception: Perception,
    source: Source | None,
    requests: Requests,
    stream: StreamState,
    context: FrameContext,
    features: Predicted,
    batch: ObjectBatch,
) -> tuple[ObjectBatch, bool]:
    """The visible objects, old and new, each pixel left to one of them; was the frame searched?

    batch: the known objects that are seen. source: None where only prompts start objects.
    """
    novel = novelty(stream.words, features, batch)
    keyframe = source is not None and is_keyframe(stream, context, batch, novel)
    batch = take_prompts(perception, stream, context, features, batch)
    if source is not None and keyframe:
        batch = search(perception, source, requests, stream, context, features, batch)
        stream.search.searched(
            context.index,
            context.frame.stamp_ns,
            1 - batch.coverage(),
            novelty(stream.words, features, batch),
        )
    return batch.visible().without_overlaps(), keyframe


def novelty(words: Words, features: Predicted, batch: ObjectBatch) -> float:
    """Share of the image that should be an object and is none: what moves by itself, or is of a
    countable class. 0 where the options ask for no such objects."""
    if features.moving is None:
        return 0.0
    classes, explained = (
        part.numpy()
        for part in download(
            features.probabilities[:, ::COARSER, ::COARSER].argmax(0),
            batch.explained()[::COARSER, ::COARSER],
        )
    )
    free = ~explained
    evidence = cv2.resize(features.moving.evidence, free.shape[::-1], interpolation=cv2.INTER_AREA)
    wanted = evidence > CLEAR
    if features.familiar >= LEAST_CONFIDENCE:
        wanted |= words.things[classes]
    return float((free & wanted).mean())


def is_keyframe(
    stream: StreamState, context: FrameContext, batch: ObjectBatch, novel: float
) -> bool:
    """Whether to search: on the first frame, where the stream breaks, on schedule, for what is new.

    A search before its time needs a place for an object, or one that may be recognised.
    """
    if context.index == 0 or any(context.stream_break):
        return True
    objects = stream.objects
    useful = objects.vacancies() > 0 or any(track.missed for track in objects.active())
    return stream.search.due(
        context.index,
        context.frame.stamp_ns,
        1 - batch.coverage(),
        novel,
        useful,
        context.config,
        context.effort,
    )


def take_prompts(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    features: Predicted,
    batch: ObjectBatch,
) -> ObjectBatch:
    """Start the objects that users asked for, or show anew those that are in memory."""
    for placed in context.prompts:
        track = stream.objects.get(placed.track_id)
        if track is None:
            posterior = perception.new_posterior(stream.words, placed.prompt.class_id)
            track = stream.objects.start(placed.track_id, posterior, prompted=True)
        else:
            track.prompted = True
            batch = batch.take([i for i, other in enumerate(batch.tracks) if other is not track])
        found = _find_prompted(perception, stream, features, placed, track.slot)
        if (found.masks > 0).any():
            stream.objects.find(track, context.config)
        else:
            stream.objects.miss(track)
        batch = _begin(stream, features, batch, [track], found)
    return batch


def search(
    perception: Perception,
    source: Source,
    requests: Requests,
    stream: StreamState,
    context: FrameContext,
    features: Predicted,
    batch: ObjectBatch,
) -> ObjectBatch:
    """Start objects where nothing is explained, or bring lost ones back."""
    batch = _drop_duplicates(stream, batch)
    if context.config.discovery == "objects":  # others follow what they were given, or found
        batch = let_go(perception, stream, features, batch)
        batch = part(perception, stream, features, batch)
        batch = mend(perception, stream, features, batch)
    unexplained = ~batch.explained()
    candidates = select(
        source.propose(features.view(), unexplained, context.config),
        unexplained,
        max(1, round(context.config.min_area * unexplained.numel())),
        stream.objects.vacancies(),
    )
    embeddings = embed(features.image.pyramid, features.colours, candidates.masks)
    whole = wholes(batch, candidates.masks, embeddings, context.config)
    chosen = _known_or_new(perception, requests, stream, context, embeddings, whole)
    batch = batch.take([i for i, track in enumerate(batch.tracks) if track not in whole.values()])
    if chosen:
        index, tracks = list(chosen), list(chosen.values())
        found = stream.tracker.from_masks(
            features.image, [track.slot for track in tracks], candidates.masks[index]
        )
        found = dataclasses.replace(found, predicted_iou=candidates.score[index])
        batch = _begin(stream, features, batch, tracks, found)
    return batch


def _find_prompted(
    perception: Perception,
    stream: StreamState,
    features: Predicted,
    placed: PlacedPrompt,
    slot: int,
) -> Tracked:
    """What a prompt means; for a model that does not understand points, the region they lie on."""
    if placed.prompt.mask is not None or perception.understands_points:
        return stream.tracker.from_prompt(features.image, slot, placed.prompt, placed.size)
    classes = features.probabilities.argmax(0).cpu().numpy()
    mask = torch.from_numpy(region_at(placed.prompt, classes, placed.size))
    return stream.tracker.from_masks(features.image, [slot], mask[None].to(perception.device))


def _begin(
    stream: StreamState,
    features: FrameFeatures,
    batch: ObjectBatch,
    tracks: Sequence[Track],
    found: Tracked,
) -> ObjectBatch:
    """Begin the memory of objects that were found; they join the batch."""
    stream.tracker.start(features.image, found)
    sure = zip(tracks, found.predicted_iou.tolist(), found.score.sigmoid().tolist(), strict=True)
    for track, predicted_iou, visibility in sure:
        stream.objects.rate(track, predicted_iou, visibility)
    begun = ObjectBatch.of(tracks, found).begun(stream.objects, features)
    return ObjectBatch.join([batch, begun])


def _known_or_new(
    perception: Perception,
    requests: Requests,
    stream: StreamState,
    context: FrameContext,
    embeddings: Tensor,
    whole: dict[int, Track],
) -> dict[int, Track]:
    """Candidate -> its object, for as many of (N, A) embeddings as there is room for.

    whole: those that are objects in sight. Those that are known come first, so that no lost object
    gives way before it is recognised. The occluded and those of users have their place; everybody
    else needs one.
    """
    objects, config = stream.objects, context.config
    others = [i for i in range(len(embeddings)) if i not in whole]
    unseen = objects.recognise(embeddings[others], config)
    known: dict[int, Track | None] = {**whole, **dict(zip(others, unseen, strict=True))}
    order = sorted(range(len(known)), key=lambda i: known[i] is None)
    needy = [
        i
        for i in order
        if (t := known[i]) is None or (t.state == TrackState.LOST and not t.prompted)
    ]
    turned_away = set(needy[requests.claim(objects, len(needy)) :])
    chosen: dict[int, Track] = {}
    for i in order:
        if i not in turned_away:
            track = known[i] or objects.start(
                objects.new_id(), perception.new_posterior(stream.words)
            )
            objects.find(track, config)
            chosen[i] = track
    return chosen


def _drop_duplicates(stream: StreamState, batch: ObjectBatch) -> ObjectBatch:
    """Two objects with the same mask are one; users' stay, else the older."""
    tracks = batch.tracks
    order = sorted(range(len(batch)), key=lambda i: (not tracks[i].prompted, tracks[i].track_id))
    alone = without_duplicates(batch.masks > 0, order)
    kept = [i for i in order if i in alone or tracks[i].prompted]
    for i in set(order) - set(kept):
        stream.objects.remove(tracks[i].track_id)
    return batch.take(kept)
