"""Whether a stream shows the world that the semantics were trained on.

On images like those it was trained on, a calibrated network is as sure as it is right. Where it is
less sure, all over the image and for some time, it looks at something else (Hendrycks and Gimpel,
"A Baseline for Detecting Misclassified and Out-of-Distribution Examples", 2017); so it does where
its deepest features are far from all that it has seen (Lee et al., "A Simple Unified Framework for
Detecting Out-of-Distribution Samples", 2018). What it is sure of there it takes for something else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEEP = 0.9
"""Share of the past in the mean from frame to frame."""

FAR = 0.12
"""How much confidence a distance of 1 counts as."""

DOUBT, DISBELIEF = 0.06, 0.10
"""How far below the least that is usual belief begins to fall, and where it ends."""

SHRINKAGE = 0.1
"""Share of the mean variance that is added to the features' own, of which few images tell."""


class World(nn.Module):
    """Where the features of familiar images lie, and how sure the head is of them.

    channels: of the summaries, the head's deepest features, each a mean over the image.
    """

    mean: Tensor
    precision: Tensor
    usual: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("precision", torch.zeros(channels, channels))
        self.register_buffer("usual", torch.tensor(0.0))

    def learn(self, summaries: Tensor) -> None:
        """Take (N, channels) summaries of familiar images in."""
        spread = summaries - summaries.mean(0)
        covariance = spread.T @ spread / len(spread)
        ridge = SHRINKAGE * covariance.diagonal().mean() + 1e-6
        regular = covariance + ridge * torch.eye(len(covariance))
        self.mean.copy_(summaries.mean(0))
        self.precision.copy_(torch.linalg.inv(regular) / len(covariance))

    def score(self, confidence: Tensor, summary: Tensor) -> Tensor:
        """(N,) how familiar images are, by the mean confidence, (N,), and the (N, channels)."""
        away = summary.float() - self.mean
        distance = ((away @ self.precision) * away).sum(1).clamp(min=0).sqrt()
        return confidence - FAR * distance


class Familiarity:
    """A running mean of the scores of one stream."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def clear(self) -> None:
        """Another scene begins."""
        self._mean = None

    def add(self, score: float, usual: float) -> float:
        """How far the classes of a frame are to be believed, from 0 to 1.

        score: the frame's, of `World.score`. usual: the least of familiar images.
        """
        past = score if self._mean is None else self._mean
        self._mean = KEEP * past + (1 - KEEP) * score
        belief = (self._mean - usual + DISBELIEF) / (DISBELIEF - DOUBT)
        return min(1.0, max(0.0, belief))
