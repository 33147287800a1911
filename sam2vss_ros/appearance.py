"""What an object looks like, as a vector by which it is known again, and who is who among several.

Measured with the embedded model and true masks on scenes in which similar figures come and go
(`sam2vss bench identity`): whitened features of three strides, averaged over an object's life,
tell objects apart; object pointers, class beliefs, colour histograms and size added nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.classifier import pool_features

KEEP = 0.9
"""Share of the past that stays in an object's mean look from frame to frame."""


def appearance(pyramid: tuple[Tensor, ...], masks: Tensor) -> Tensor:
    """Unit vectors (B, levels x C) of what is inside (B, S/4, S/4) masks, float32.

    pyramid: (1, C, ., .) maps of one image. What is common to everything in the image tells
    nothing, so each channel counts in standard deviations from its mean over the image.
    """
    parts = []
    for level in pyramid:
        deviation, mean = torch.std_mean(level[0].flatten(1).float(), dim=1)
        inside = pool_features((level,), masks)
        parts.append(F.normalize((inside - mean) / deviation.clamp(min=1e-3), dim=1))
    return F.normalize(torch.cat(parts, 1), dim=1)


def assign(alike: Tensor, least: float, margin: float) -> list[int | None]:
    """Match N candidates with M objects, each at most once, the most alike pair first.

    alike: (N, M) similarities. Returns the object of each candidate, None where no free object is
    `least` alike, or where the next one is closer than `margin`: rather a new id than a wrong one.
    """
    found: list[int | None] = [None] * len(alike)
    scores = alike.cpu().clone()
    for _ in range(min(scores.shape)):
        best = int(scores.argmax())
        i, j = divmod(best, scores.shape[1])
        score = float(scores[i, j])
        if score < least:
            break
        scores[i, j] = -torch.inf
        if float(scores[i].max()) <= score - margin:
            found[i] = j
            scores[:, j] = -torch.inf
        scores[i] = -torch.inf
    return found
