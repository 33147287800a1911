"""The first stage: what the networks say of an image, smoothed over time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.sam2.discovery import View
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.stream.movers import Moving
from sam2vss_ros.stream.reid import colour_maps
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.stream.stopwatch import Stopwatch
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame


@dataclass(frozen=True)
class FrameFeatures:
    """What the networks say of a frame.

    image: the tracker's features. hidden, middles: the dense head's, where it is asked. log_dense:
    (K, ., .) log probabilities. probabilities: (K, h, w) on the grid of the tracker's masks.
    colours: (1, 64, ., .), the image's `colour_maps` on the grid of the finest features. likeness:
    to the head's world, `World.score`, where the prediction is the head's. flow: to the frame
    before, None where there is none. moving: what moves by itself, where it is looked for.
    familiar: from 0 to 1, how far the prediction is to be believed.
    """

    image: Features
    hidden: Tensor | None
    middles: Tensor | None
    log_dense: Tensor
    probabilities: Tensor
    colours: Tensor
    likeness: float | None = None
    flow: Flow | None = None
    moving: Moving | None = None
    familiar: float = 1.0

    def view(self) -> View:
        """What a search sees of it."""
        return View(self.image, self.probabilities, self.middles, self.moving, self.familiar)


def see(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    image: Features | None,
    watch: Stopwatch,
) -> FrameFeatures:
    """The frame's features; the dense evidence is joined with that of the frames before.

    image: as for `extract`. watch: the dense network, where there is one, is a lap of its own.
    """
    dense = perception.predict(context.frame)
    if dense is not None:
        watch.lap("network")
    features = extract(perception, context.frame, context.config.mode, dense, image)
    flow = stream.motion.follow(context.frame.image)
    moving = None
    if context.config.discovery == "objects":
        moving = stream.movers.add(stream.motion.image, flow)
    familiar = 1.0
    if features.likeness is not None:
        familiar = stream.familiarity.add(features.likeness, perception.usual_likeness)
    evidence = stream.smoothing.add(features.log_dense, flow)
    return dataclasses.replace(
        features, log_dense=evidence, flow=flow, moving=moving, familiar=familiar
    )


def extract(
    perception: Perception,
    frame: Frame,
    mode: str,
    dense: Tensor | None = None,
    image: Features | None = None,
) -> FrameFeatures:
    """Run the networks on a frame.

    dense: what `Perception.predict` says of it; None: the dense head is to say it. image: its
    features, where they are known already.
    """
    if image is None:
        (image,) = perception.encode_images([frame.image])
    hidden = middles = likeness = None
    if dense is None or perception.classifies_masks(mode):
        head = perception.run_head(frame, image)
        hidden, middles = head.hidden, head.middles[0]
        if dense is None:
            dense = head.logits[0].float().log_softmax(0)
            likeness = perception.likeness(head)
    size = perception.mask_size((frame.image.shape[0], frame.image.shape[1]))
    probabilities = dense.exp()
    if probabilities.shape[-2:] != size:
        probabilities = F.interpolate(probabilities[None], size, mode="bilinear", antialias=True)[0]
    fine = image.pyramid[0]
    colours = colour_maps(frame.image, (fine.shape[-2], fine.shape[-1]), perception.device)
    return FrameFeatures(image, hidden, middles, dense, probabilities, colours, likeness)
