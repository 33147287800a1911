"""The last stage: the images and objects that are published."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.semantics.fusion import fuse
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.stages.batch import ObjectBatch
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
    height, width = context.size
    fused = fuse(
        config.mode,
        log_dense,
        batch.masks,
        upload(batch.posteriors(len(classes)), perception.device),
        label_size(perception, context.size, log_dense),
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
    labels, confidence, instances, owner = (
        cv2.resize(x, (width, height), interpolation=cv2.INTER_NEAREST)
        for x in (labels, (sure * 255).astype(np.uint8), values[owner], owner)
    )
    entropy = None
    if fused.entropy is not None:
        small = fused.entropy.float().cpu().numpy()
        entropy = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    position = {track: i for i, track in enumerate(batch.tracks)}
    return SemanticFrame(
        stamp_ns=context.frame.stamp_ns,
        label_image=labels,
        confidence_image=confidence,
        instance_image=instances,
        objects=tuple(
            _describe(words, context, familiar, t, owner == position[t] if t in position else None)
            for t in objects.all()
        ),
        keyframe=keyframe,
        coverage=float((instances > 0).mean()),
        degraded=context.effort.degraded,
        late=context.effort.late,
        scene_cut=context.stream_break.scene_cut,
        time_jump=context.stream_break.time_jump,
        began_anew=context.began_anew,
        entropy_image=entropy,
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
    owned: npt.NDArray[np.bool_] | None,
) -> TrackedObject:
    """An object as it is published; owned: (H, W), its pixels, None where it is not visible."""
    probabilities = track.posterior.probabilities().numpy()
    likeliest, probabilities = float(probabilities.max()), probabilities[: len(words.catalog)]
    best = int(probabilities.argmax())
    score = float(probabilities[best]) * (1.0 if track.posterior.given else familiar)
    sure = score >= context.config.min_class_score and probabilities[best] == likeliest
    x, y, width, height = (0, 0, 0, 0) if owned is None else cv2.boundingRect(owned.view(np.uint8))
    mask = np.zeros((0, 0), bool) if owned is None else owned[y : y + height, x : x + width]
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    area = round(moments["m00"])
    known = words.catalog.classes[best]
    return TrackedObject(
        track_id=track.track_id,
        state=track.state,
        class_id=known.id if sure else context.config.unlabelled_id,
        class_name=known.name if sure else "",
        class_score=score,
        class_probabilities=probabilities,
        predicted_iou=track.predicted_iou,
        visibility=track.visibility,
        box=(x, y, width, height),
        area=area,
        centroid=(x + moments["m10"] / area, y + moments["m01"] / area) if area else (0.0, 0.0),
        age=track.age,
        frames_since_seen=track.missed,
        mask=mask.copy(),
    )
