"""In the place of all stages: the answer to an image that the networks do not look at.

What the last look made of an image moves along the optical flow to the next (as features do in Zhu
et al., "Deep Feature Flow for Video Recognition", CVPR 2017). Nothing is learned from it, so the
next look finds the stream as the last one left it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from sam2vss_ros.stages import compose
from sam2vss_ros.stages.decide import Decision
from sam2vss_ros.stream.motion import Flow, belief_on
from sam2vss_ros.stream.state import FrameContext, StreamState
from sam2vss_ros.types import Frame, SemanticFrame

BELIEVED = 0.5
"""Mean belief in the flow, on the image and on its objects and their border, below which the
networks have to look."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a frame that was looked at, for those that follow.

    masks: (B, h, w) logits of the visible objects. size: height and width of the image. mode: that
    of the options.
    """

    decision: Decision
    masks: Tensor
    size: tuple[int, int]
    mode: str

    def suits(self, frame: Frame, mode: str, with_entropy: bool) -> bool:
        """Whether an answer to this frame may come of it; labels of another node are news."""
        same = (frame.image.shape[:2], mode) == (self.size, self.mode)
        complete = self.decision.entropy is not None or not with_entropy
        return same and complete and frame.dense_labels is None

    def believes(self, flow: Flow) -> bool:
        """Whether the flow is believed where it matters."""
        on_objects = 1.0
        if len(self.masks):
            on_objects = float(belief_on(self.masks.amax(0, keepdim=True), flow))
        return min(flow.belief(), on_objects) >= BELIEVED


def follow(stream: StreamState, kept: Kept, frame: Frame) -> Decision | None:
    """What was decided, as it is on the next frame; None, and nothing is done, where the flow to it
    is not believed."""
    moved = stream.motion.glance(frame.image)
    if moved.flow is None or not kept.believes(moved.flow):
        return None
    stream.motion.pass_over(moved)
    return kept.decision.along(moved.flow)


def answer(stream: StreamState, context: FrameContext, decision: Decision) -> SemanticFrame:
    """The answer to a frame of which `follow` gave what is decided; objects move on by it."""
    stream.watch_movers(context.config)
    stream.objects.pass_over(context.config)
    made = compose.compose(stream.words, context, decision, stream.objects, keyframe=False)
    return dataclasses.replace(made, carried=True)
