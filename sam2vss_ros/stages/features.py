"""The first stage: what the networks say of an image, smoothed over time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.aside import Aside
from sam2vss_ros.perception import Perception
from sam2vss_ros.resampling import bilinear
from sam2vss_ros.sam2.discovery import LEAST_CONFIDENCE, View
from sam2vss_ros.semantics import second_look
from sam2vss_ros.semantics.vocabulary.network import LEAST
from sam2vss_ros.semantics.vocabulary.text_model import Look
from sam2vss_ros.semantics.vocabulary.words import Naming, Words
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.stream.movers import Moving
from sam2vss_ros.stream.reid import colour_maps
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.stream.stopwatch import Stopwatch
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame


class Fixed(NamedTuple):
    """The dense prediction in the classes of the semantics or of a network: (C, ., .) log
    probabilities, and how far they are to be believed, from 0 to 1."""

    log_dense: Tensor
    familiar: float


@dataclass(frozen=True, kw_only=True)
class FrameFeatures:
    """What objects are followed by.

    image: the tracker's features. colours: (1, 64, ., .), the image's `colour_maps` on the grid of
    the finest features. flow: to the last frame that was looked at, None where there is none.
    moving: what moves by itself, where it is looked for.
    """

    image: Features
    colours: Tensor
    flow: Flow | None = None
    moving: Moving | None = None


@dataclass(frozen=True, kw_only=True)
class Predicted(FrameFeatures):
    """The same with the classes of a frame, from what the networks say of it.

    hidden: the dense head's, where it is asked; middles: its `Dense.middles`, (3, ., .), found once
    somebody asks. log_dense: (K, ., .) log probabilities. probabilities: (K, h, w) on the grid of
    the tracker's masks. scene: the trunk's coarsest map, where the prediction is the head's.
    familiar: from 0 to 1, how far the prediction is to be believed. fixed: that of the fixed
    classes, where answers are in words. look: what the text model sees, where it looked.
    """

    hidden: Tensor | None
    middles: Callable[[], Tensor] | None
    log_dense: Tensor
    probabilities: Tensor
    scene: Tensor | None = None
    familiar: float = 1.0
    fixed: Fixed | None = None
    look: Look | None = None

    def view(self) -> View:
        """What a search sees of it."""
        middles = None if self.middles is None else self.middles()
        return View(self.image, self.probabilities, middles, self.moving, self.familiar)


Looked = Callable[[], Predicted | None]
"""Hands over what `VssPipeline.look` found; it may wait for that, and raises what that has."""


def see(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    looked: Looked | None,
    watch: Stopwatch,
    aside: Aside | None,
) -> FrameFeatures:
    """The frame's features, and what is to be known of it before `predict`.

    looked: what the networks say of it, where they were asked ahead; who looked in another mode may
    not have asked them all. watch: the dense network, where there is one and it is asked here, is a
    lap of its own. aside: finds the flow meanwhile, and the dense head is left to `predict`.
    """
    frame, mode = context.frame, context.config.mode
    found = None if looked is None else looked()
    if found is not None and found.hidden is None and perception.classifies_masks(mode):
        found = None
    features: FrameFeatures
    if found is None and aside is not None:
        with aside.doing(lambda: stream.motion.follow(frame.image)) as followed:
            features = encode(perception, frame)
            flow = followed()
    else:
        if found is None:
            dense = perception.predict(frame)
            if dense is not None:
                watch.lap("network")
            found = extract(perception, frame, mode, dense)
        features, flow = found, stream.motion.follow(frame.image)
    moving = stream.watch_movers(context.config)
    return dataclasses.replace(features, flow=flow, moving=moving)


def predict(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    features: FrameFeatures,
    lap: Callable[[str], None] = lambda _: None,
) -> Predicted:
    """The classes of a frame of which `see` gave the features; the dense evidence is joined with
    that of the frames before.

    Of the stream it changes what is remembered of classes alone, so a thread may do it while
    another follows the objects. lap: is told of `encode` and `words` when they are done.
    """
    if isinstance(features, Predicted):
        predicted = features
    else:
        predicted = _predicted(perception, context.frame, context.config.mode, None, features)
    scene = predicted.scene
    if scene is not None:
        # A GPU has encoded the image while its flow was found; only here it is waited for.
        familiar = stream.familiarity.belief(lambda: perception.likeness(scene))
        predicted = dataclasses.replace(predicted, familiar=familiar)
    # Where nothing is believed it would change nothing, and where time is short one look has to do.
    if scene is not None and predicted.familiar > 0 and not context.effort.degraded:
        predicted = _looked_again(perception, context, predicted)
    lap("encode")
    if stream.words.naming is not None:
        predicted = _speak(perception, stream, context, predicted)
        lap("words")
    evidence = stream.smoothing.add(predicted.log_dense, predicted.flow)
    return dataclasses.replace(predicted, log_dense=evidence)


def _looked_again(perception: Perception, context: FrameContext, features: Predicted) -> Predicted:
    """The same with what second looks say, where there are any."""
    sizes = second_look.sizes(
        any(context.stream_break),
        features.flow,
        context.index,
        context.config.second_look_interval,
        context.hurried,
    )
    if not sizes:
        return features
    looks = [perception.look_again(context.frame, size) for size in sizes]
    return dataclasses.replace(features, log_dense=second_look.joined(features.log_dense, looks))


def _speak(
    perception: Perception, stream: StreamState, context: FrameContext, features: Predicted
) -> Predicted:
    """The same in words; the image is looked at where that is due.

    Words are as familiar as any: what the fixed classes do not know, they may. What the head says
    of the middles of things does not hold where it knows nothing.
    """
    words, text = stream.words, stream.text
    assert words.naming is not None
    look = None
    if text.due(context.index, any(context.stream_break), context.config, context.effort):
        look = perception.look(context.frame.image)
        text.looked(context.index, perception.text_shares(words, look))
    else:
        text.carry(features.flow)
    fixed = features.log_dense
    shares = text.dense((fixed.shape[-2], fixed.shape[-1]), words.naming)
    log_dense = _joined(words.naming, fixed, shares, features.familiar)
    size = (features.probabilities.shape[-2], features.probabilities.shape[-1])
    return dataclasses.replace(
        features,
        log_dense=log_dense,
        middles=features.middles if features.familiar >= LEAST_CONFIDENCE else None,
        probabilities=_at(log_dense.exp(), size),
        familiar=1.0,
        fixed=Fixed(fixed, features.familiar),
        look=look,
    )


def in_words(
    perception: Perception, words: Words, log_fixed: Tensor, familiar: float, look: Look
) -> Tensor:
    """(K + 1, h, w) log probabilities of words, of one image alone.

    log_fixed: (C, h, w) of the fixed classes, believed as far as they are `familiar` with it.
    """
    assert words.naming is not None
    size = (log_fixed.shape[-2], log_fixed.shape[-1])
    shares = F.interpolate(perception.text_shares(words, look)[None], size, mode="bilinear")[0]
    return _joined(words.naming, log_fixed, shares, familiar)


def _joined(naming: Naming, log_fixed: Tensor, shares: Tensor, familiar: float) -> Tensor:
    return naming.join(log_fixed.exp(), shares, familiar).clamp(min=LEAST).log()


def encode(perception: Perception, frame: Frame, image: Features | None = None) -> FrameFeatures:
    """Run the image encoder on a frame. image: what that gives, where it is known already."""
    if image is None:
        (image,) = perception.encode_images([frame.image])
    fine = image.pyramid[0]
    colours = colour_maps(frame.image, (fine.shape[-2], fine.shape[-1]), perception.device)
    return FrameFeatures(image=image, colours=colours)


def extract(
    perception: Perception,
    frame: Frame,
    mode: str,
    dense: Tensor | None = None,
    image: Features | None = None,
) -> Predicted:
    """Run the networks on a frame.

    dense: what `Perception.predict` says of it; None: the dense head is to say it. image: its
    features, where they are known already.
    """
    return _predicted(perception, frame, mode, dense, encode(perception, frame, image))


def _predicted(
    perception: Perception,
    frame: Frame,
    mode: str,
    dense: Tensor | None,
    features: FrameFeatures,
) -> Predicted:
    hidden = middles = scene = None
    if dense is None or perception.classifies_masks(mode):
        maps = perception.trunk_maps(frame, features.image)
        head = perception.run_head(maps)
        hidden = head.hidden
        middles = functools.cache(functools.partial(perception.find_middles, hidden))
        if dense is None:
            dense = head.logits[0].float().log_softmax(0)
            scene = maps[-1]
    size = perception.mask_size((frame.image.shape[0], frame.image.shape[1]))
    return Predicted(
        image=features.image,
        colours=features.colours,
        flow=features.flow,
        moving=features.moving,
        hidden=hidden,
        middles=middles,
        log_dense=dense,
        probabilities=_at(dense.exp(), size),
        scene=scene,
    )


def _at(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, ., .) at a size (height, width)."""
    (h, w), (height, width) = probabilities.shape[-2:], size
    if (h, w) == (height, width):
        return probabilities
    if h <= height and w <= width:
        return bilinear(probabilities, size)
    return F.interpolate(probabilities[None], size, mode="bilinear", antialias=True)[0]
