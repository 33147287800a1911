"""Whether a stream shows the world that the semantics were trained on.

In another world they take what they see for something else, and are often sure of it. What sort of
scene an image shows, ImageNet's network tells from a mean over the whole (Oquab et al., "Learning
and Transferring Mid-Level Image Representations using Convolutional Neural Networks", 2014): a line
through its features divides the images of the training from scenes of elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sam2vss_ros.affinity.trunk import CHANNELS, stages
from sam2vss_ros.packing import Clipped
from sam2vss_ros.semantics.segmenter import DEEP_STAGES, DEEPEST

IMPRESSION = 1280
"""Channels of MobileNetV2's last convolution."""

ELSEWHERE = 64
"""Impressions of other scenes that are kept."""

LOOK_EVERY = 4
"""Frames from one look at the scene to the next."""

KEEP = 0.65
"""Share of the past in the mean from look to look."""

STRANGE, FAMILIAR = 0.25, 0.4
"""Likeness where belief in the classes begins, and where it is whole."""

DECAY = 0.01
"""Weight of the squared length in the logistic regression."""


class World(nn.Module):
    """How like a scene is to those that the semantics were trained on.

    Its convolutions are the published end of MobileNetV2, beside the one that the dense head has
    made its own. Untrained it finds every scene familiar.
    """

    direction: Tensor
    offset: Tensor
    elsewhere: Tensor

    def __init__(self) -> None:
        super().__init__()
        deep = stages(CHANNELS[-1], DEEP_STAGES)
        self.eyes = nn.Sequential(*deep, Clipped(DEEPEST, IMPRESSION, 1))
        self.register_buffer("direction", torch.zeros(IMPRESSION))
        self.register_buffer("offset", torch.tensor(1.0))
        self.register_buffer("elsewhere", torch.zeros(ELSEWHERE, IMPRESSION))

    def impressions(self, coarse: Tensor) -> Tensor:
        """(B, 96, h, w) maps of the trunk at stride 16 -> (B, IMPRESSION) float32."""
        # The weights are used now and then, and may be kept in half precision: a block at a time.
        seen = coarse
        for block in self.eyes:
            weights = {k: v.to(coarse.dtype) for k, v in block.state_dict().items()}
            seen = functional_call(block, weights, seen)
        return seen.float().mean((2, 3))

    def forward(self, coarse: Tensor) -> Tensor:
        """(B, 96, h, w) maps of the trunk at stride 16 -> (B,) likeness: 1 is usual, 0 or less
        is as far from the scenes of the training as from those of elsewhere."""
        return (self.impressions(coarse) * self.direction).sum(1) + self.offset

    def learn(self, here: Tensor, elsewhere: Tensor) -> None:
        """Divide (N, IMPRESSION) of familiar scenes from (ELSEWHERE, IMPRESSION) of others.

        Raises ValueError where they are the same scenes.
        """
        impressions = torch.cat([here, elsewhere]).double()
        sides = torch.cat([torch.ones(len(here)), -torch.ones(len(elsewhere))]).double()
        shares = torch.where(sides > 0, 0.5 / len(here), 0.5 / len(elsewhere))
        mean, deviation = impressions.mean(0), impressions.std().clamp(min=1e-6)
        unit = (impressions - mean) / deviation
        line = torch.zeros(IMPRESSION + 1, dtype=torch.double, requires_grad=True)
        descent = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            descent.zero_grad()
            wrong = F.softplus(-sides * (unit @ line[1:] + line[0]))
            total = 2 * (shares * wrong).sum() + DECAY * line[1:].square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        descent.step(loss)
        found = line.detach()
        usual = (unit[: len(here)] @ found[1:] + found[0]).median()
        if usual <= 0:
            raise ValueError("the scenes of elsewhere look like those of the training")
        direction = found[1:] / deviation / usual
        self.direction.copy_(direction)
        self.offset.copy_(found[0] / usual - direction @ mean)
        self.elsewhere.copy_(elsewhere)


class Familiarity:
    """A running mean of how like the scenes of one stream are."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Another scene begins."""
        self._mean: float | None = None
        self._age = 0

    def belief(self, look: Callable[[], Tensor]) -> float:
        """How far the classes of the next frame are to be believed, from 0 to 1.

        look: gives the frame's likeness, of `World`; asked on the first frame of a scene and on
        every `LOOK_EVERY`-th from there on.
        """
        if self._mean is None or self._age % LOOK_EVERY == 0:
            likeness = float(look())
            past = likeness if self._mean is None else self._mean
            self._mean = KEEP * past + (1 - KEEP) * likeness
        self._age += 1
        return min(1.0, max(0.0, (self._mean - STRANGE) / (FAMILIAR - STRANGE)))
