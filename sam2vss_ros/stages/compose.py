"""The last stage: the images and objects that are published."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.fusion import fuse
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.enlarge import Enlargement, Extent
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.state import FrameContext
from sam2vss_ros.transfer import download, upload
from sam2vss_ros.types import SemanticFrame, TrackedObject, instance_value


def compose(
    perception: Perception,
    words: Words,
    context: FrameContext,
    log_dense: Tensor,
    familiar: float,
    batch: ObjectBatch,
    objects: ObjectMemory,
    keyframe: bool,
    with_entropy: bool = False,
) -> SemanticFrame:
    """The answer to a frame, but for the time it took.

    words: the classes, K with what is none of them. log_dense: (K, ., .) log probabilities.
    familiar: from 0 to 1, what confidences and scores of classes are multiplied by. batch: the
    visible objects. objects: all there are. with_entropy: whether the answer has one.
    """
    config, classes = context.config, words.classes
    grid = label_size(perception, context.size, log_dense)
    fused = fuse(
        config.mode,
        log_dense,
        batch.masks,
        upload(batch.posteriors(len(classes)), perception.device),
        grid,
        with_entropy,
    )
    confidence, owner, best = (
        part.numpy() for part in download(fused.confidence, fused.owner.short(), fused.classes)
    )
    sure = familiar * confidence
    label_dtype = words.catalog.label_dtype(config.unlabelled_id)
    labels = classes.ids.astype(label_dtype).take(best)
    labels[sure < config.min_class_score] = config.unlabelled_id
    values = np.array([*(instance_value(t.track_id) for t in batch.tracks), 0], np.uint16)
    entropy = None if fused.entropy is None else fused.entropy.float().cpu().numpy()
    enlarged = Enlargement(grid, context.size)
    extents = {t: enlarged.extent(owner == i) for i, t in enumerate(batch.tracks)}
    return SemanticFrame(
        stamp_ns=context.frame.stamp_ns,
        label_image=enlarged.image(labels),
        confidence_image=enlarged.image((sure * 255).astype(np.uint8)),
        instance_image=enlarged.image(values[owner]),
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


def label_size(perception: Perception, size: tuple[int, int], log_dense: Tensor) -> tuple[int, int]:
    """Height and width at which the labels of an image of `size` are decided, then upsampled to it.

    Far beyond the resolution of masks and dense prediction there is nothing to gain.
    """
    grids = zip(perception.mask_size(size), log_dense.shape[-2:], strict=True)
    rows, columns = (2 * max(grid) for grid in grids)
    return min(size[0], rows), min(size[1], columns)


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
