"""Whether a stream shows the world that the semantics were trained on.

On images like those it was trained on a calibrated network is as sure as it is right. Where it is
less sure, all over the image and for some time, it looks at something else (Hendrycks and Gimpel,
"A Baseline for Detecting Misclassified and Out-of-Distribution Examples", 2017), and what it is
sure of there it takes for something that it knows.
"""

from __future__ import annotations

import torch
from torch import Tensor

KEEP = 0.9
"""Share of the past in the mean from frame to frame."""

SPAN = 0.1
"""How far below the mean confidence on known images nothing is believed any more."""


class Familiarity:
    """A running mean of one stream's confidence."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def clear(self) -> None:
        """Another scene begins."""
        self._mean = None

    def add(self, log_dense: Tensor, usual: float) -> float:
        """How far a frame's (K, h, w) log probabilities are to be believed, from 0 to 1.

        usual: the mean confidence from which images are familiar.
        """
        now = float(torch.amax(log_dense, 0).exp().mean())
        past = now if self._mean is None else self._mean
        self._mean = KEEP * past + (1 - KEEP) * now
        return min(1.0, max(0.0, 1 - (usual - self._mean) / SPAN))
