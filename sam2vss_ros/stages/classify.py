"""The fourth stage: what this frame says of each visible object: its class, its embedding."""

from __future__ import annotations

from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2 import policy
from sam2vss_ros.sam2.masks import above
from sam2vss_ros.semantics.classifier import pool_features
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import Predicted
from sam2vss_ros.stream.naming import weight_of
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.transfer import download


def classify(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    features: Predicted,
    batch: ObjectBatch,
) -> None:
    """Give each object this frame's evidence of its class, and its embedding where it is sure.

    One that others cover altogether shows none of either.
    """
    if not len(batch):
        return
    shares = _class_shares(perception, context.config.mode, features, batch)
    if stream.words.naming is not None:
        shares = _in_words(perception, stream, context, features, batch, shares)
    shares, highest = download(shares, batch.masks.flatten(1).amax(1))
    uncovered = (highest > 0).tolist()
    sure = policy.worth_remembering(batch.tracked)
    embeddings = batch.embedded(features).embeddings
    for i, (track, row, embedding) in enumerate(zip(batch.tracks, shares, embeddings, strict=True)):
        assert embedding is not None
        if not uncovered[i]:
            continue
        stream.objects.classify(track, row, context.config)
        if i in sure or track.embedding is None:
            stream.objects.learn(track, embedding)


def _class_shares(
    perception: Perception, mode: str, features: Predicted, batch: ObjectBatch
) -> Tensor:
    """(B, C) shares of the fixed classes in the masks of B objects, from this frame alone."""
    masks = above(batch.masks)
    dense = features.log_dense if features.fixed is None else features.fixed.log_dense
    of_pixels = pool_features((dense.softmax(0)[None],), masks)
    if not perception.classifies_masks(mode):
        return of_pixels
    assert features.hidden is not None
    of_features = perception.classify_masks(features.hidden, masks)
    return of_features if mode == "classify" else (of_features + of_pixels) / 2


def _in_words(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    features: Predicted,
    batch: ObjectBatch,
    fixed: Tensor,
) -> Tensor:
    """(B, K + 1) shares of words: by all that the text model has seen of each object, and by what
    the fixed classes say of this frame, (B, C)."""
    words, text = stream.words, stream.text
    assert words.naming is not None and features.fixed is not None
    ids = [track.track_id for track in batch.tracks]
    look = features.look
    if look is None and text.due_for(ids, context.index, context.effort):
        look = perception.look(context.frame.image)
        text.looked(context.index, perception.text_shares(words, look))
    if look is not None:
        masks = batch.masks > 0
        areas = masks.flatten(1).float().mean(1).tolist()
        for track, vector, area in zip(batch.tracks, look.pool(masks), areas, strict=True):
            weight = weight_of(area, track.predicted_iou, track.visibility)
            text.learn(track.track_id, vector, weight)
    shares = text.shares(ids, words.naming)
    return words.naming.join(fixed.T, shares.T, features.fixed.familiar).T
