"""The last stage: the images and objects that are published."""

from __future__ import annotations

import math

import numpy as np

from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stages.decide import Decision
from sam2vss_ros.stages.enlarge import Enlargement, Extent
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.state import FrameContext
from sam2vss_ros.types import SemanticFrame, TrackedObject, instance_value


def compose(
    words: Words,
    context: FrameContext,
    decision: Decision,
    objects: ObjectMemory,
    keyframe: bool,
) -> SemanticFrame:
    """The answer to a frame, but for the time it took.

    words: the classes, with what is none of them. objects: all there are.
    """
    config, tracks, familiar = context.config, decision.tracks, decision.familiar
    sure = familiar * decision.confidence
    label_dtype = words.catalog.label_dtype(config.unlabelled_id)
    labels = words.classes.ids.astype(label_dtype).take(decision.classes)
    labels[sure < config.min_class_score] = config.unlabelled_id
    values = np.array([*(instance_value(t.track_id) for t in tracks), 0], np.uint16)
    enlarged = Enlargement(decision.size, context.size)
    extents = {t: enlarged.extent(decision.owner == i) for i, t in enumerate(tracks)}
    entropy = decision.entropy
    return SemanticFrame(
        stamp_ns=context.frame.stamp_ns,
        label_image=enlarged.image(labels),
        confidence_image=enlarged.image((sure * 255).astype(np.uint8)),
        instance_image=enlarged.image(values[decision.owner]),
        objects=tuple(
            _describe(words, context, familiar, t, extents.get(t, Extent())) for t in objects.all()
        ),
        keyframe=keyframe,
        coverage=sum(extent.area for extent in extents.values()) / math.prod(context.size),
        degraded=context.effort.degraded,
        late=context.effort.late,
        scene_cut=context.stream_break.scene_cut,
        time_jump=context.stream_break.time_jump,
        began_anew=context.began_anew,
        entropy_image=None if entropy is None else enlarged.image(entropy),
    )


def _describe(
    words: Words,
    context: FrameContext,
    familiar: float,
    track: Track,
    extent: Extent,
) -> TrackedObject:
    """An object as it is published; extent: empty where it is not visible.

    What was found as a thing is none of the classes of stuff, nor has it the score of one.
    """
    probabilities = track.posterior.probabilities().numpy()
    likeliest, probabilities = float(probabilities.max()), probabilities[: len(words.catalog)]
    possible = probabilities
    if context.config.discovery == "objects" and not track.prompted:
        possible = probabilities * words.things[: len(words.catalog)]
    best = int(possible.argmax())
    score = float(possible[best]) * (1.0 if track.posterior.given else familiar)
    known = words.catalog.classes[best]
    sure = score >= context.config.min_class_score and possible[best] == likeliest
    return TrackedObject(
        track_id=track.track_id,
        state=track.state,
        class_id=known.id if sure else context.config.unlabelled_id,
        class_name=known.name if sure else "",
        class_score=score,
        class_probabilities=probabilities,
        predicted_iou=track.predicted_iou,
        visibility=track.visibility,
        box=extent.box,
        area=extent.area,
        centroid=extent.centroid,
        age=track.age,
        frames_since_seen=track.missed,
        mask=extent.mask,
    )
