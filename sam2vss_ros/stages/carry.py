"""In the place of all stages: the answer to an image that the networks do not look at.

What the last look made of an image moves along the optical flow to the next (as features do in Zhu
et al., "Deep Feature Flow for Video Recognition", CVPR 2017). Nothing is learned from it, so the
next look finds the stream as the last one left it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from sam2vss_ros.perception import Perception
from sam2vss_ros.stages import compose
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stream.motion import Flow, along, belief_on
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.types import Frame, SemanticFrame

BELIEVED = 0.5
"""Mean belief in the flow, on the image and on its objects and their border, below which the
networks have to look."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a frame that was looked at, for those that follow.

    log_dense: (K, ., .) log probabilities. familiar: from 0 to 1, how far they are believed.
    batch: the visible objects. size: height and width of the image.
    """

    log_dense: Tensor
    familiar: float
    batch: ObjectBatch
    size: tuple[int, int]

    def believes(self, flow: Flow) -> bool:
        """Whether the flow is believed where it matters."""
        masks = self.batch.masks
        on_objects = float(belief_on(masks.amax(0, keepdim=True), flow)) if len(masks) else 1.0
        return min(flow.belief(), on_objects) >= BELIEVED

    def along(self, flow: Flow) -> Kept:
        """The same, moved to where it is now."""
        masks = along(self.batch.masks, flow)
        moved = dataclasses.replace(self.batch.tracked, masks=masks)
        return dataclasses.replace(
            self,
            log_dense=along(self.log_dense, flow),
            batch=dataclasses.replace(self.batch, tracked=moved),
        )


def follow(stream: StreamState, kept: Kept, frame: Frame) -> Kept | None:
    """What is kept, as it is on the next frame; None, and nothing is done, where the flow to it is
    not believed."""
    moved = stream.motion.glance(frame.image)
    if moved.flow is None or not kept.believes(moved.flow):
        return None
    stream.motion.pass_over(moved)
    return kept.along(moved.flow)


def answer(
    perception: Perception,
    stream: StreamState,
    context: FrameContext,
    kept: Kept,
    with_entropy: bool,
) -> SemanticFrame:
    """The answer to a frame of which `follow` gave what was kept; objects move on by it."""
    stream.watch_movers(context.config)
    stream.objects.pass_over(context.config)
    made = compose.compose(
        perception,
        stream.words,
        context,
        kept.log_dense,
        kept.familiar,
        kept.batch,
        stream.objects,
        keyframe=False,
        with_entropy=with_entropy,
    )
    return dataclasses.replace(made, carried=True)
