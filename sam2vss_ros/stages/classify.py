"""The fourth stage: what this frame says of each visible object: its class, its embedding."""

from __future__ import annotations

from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2 import policy
from sam2vss_ros.semantics.classifier import pool_features
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stream.state import FrameContext, StreamState


def classify(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    features: FrameFeatures,
    batch: ObjectBatch,
) -> None:
    """Give each object this frame's evidence of its class, and its embedding where it is sure."""
    if not len(batch):
        return
    shares = _class_shares(perception, context.config.mode, features, batch).cpu()
    sure = policy.worth_remembering(batch.tracked)
    embeddings = batch.embedded(features).embeddings
    for i, (track, row, embedding) in enumerate(zip(batch.tracks, shares, embeddings, strict=True)):
        assert embedding is not None
        stream.objects.classify(track, row, context.config)
        if i in sure or track.embedding is None:
            stream.objects.learn(track, embedding)


def _class_shares(
    perception: Perception, mode: str, features: FrameFeatures, batch: ObjectBatch
) -> Tensor:
    """(B, K) shares of the classes in the masks of B objects, from this frame alone."""
    masks = batch.masks > 0
    of_pixels = pool_features((features.log_dense.softmax(0)[None],), masks)
    if not perception.classifies_masks(mode):
        return of_pixels
    assert features.hidden is not None
    of_features = perception.classify_masks(features.hidden, masks)
    return of_features if mode == "classify" else (of_features + of_pixels) / 2
