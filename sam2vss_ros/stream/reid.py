"""Re-identification: embeddings by which an object is known again, and who is who among several.

Measured with the embedded model and true masks on scenes in which similar figures come and go
(`sam2vss bench identity`): whitened features of three strides and a histogram of colours, averaged
over an object's life, tell objects apart. Object pointers, class posteriors and size added nothing;
the embedding of the last frame alone recognised a fifth fewer. Where the tracker doubts its mask
nothing is learned from it: else a track that slips off takes on what it slips to.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.classifier import pool_features
from sam2vss_ros.transfer import upload

KEEP = 0.9
"""Share of the past that stays in an object's mean embedding from frame to frame."""

_SHADES = 4


def colour_maps(
    image: npt.NDArray[np.uint8], size: tuple[int, int], device: torch.device
) -> Tensor:
    """The coarse colour of each place of an (H, W, 3) image: (1, 64, *size) of 0 and 1."""
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    red, green, blue = np.moveaxis(small // (256 // _SHADES), 2, 0)
    index = upload(torch.from_numpy((red * _SHADES + green) * _SHADES + blue), device).long()
    maps = torch.zeros(1, _SHADES**3, *size, device=device)
    return maps.scatter_(1, index[None, None], 1.0)


def embed(pyramid: tuple[Tensor, ...], colours: Tensor, masks: Tensor) -> Tensor:
    """Unit vectors (B, levels x C + 64) of what is inside (B, h, w) masks, bool or soft, float32.

    pyramid: (1, C, ., .) maps of one image, the finest first; colours: its `colour_maps`, as large
    as the finest. What is common to everything in the image tells nothing, so each channel of the
    pyramid counts in standard deviations from its mean over the image. All levels and the colours
    weigh the same.
    """
    pooled = pool_features((colours, *pyramid), masks)
    shades, *levels = pooled.split([m.shape[1] for m in (colours, *pyramid)], 1)
    parts = [shades.clamp(min=0).sqrt()]
    for level, inside in zip(pyramid, levels, strict=True):
        flat = level[0].flatten(1).float()
        mean = flat.mean(1)
        # Several times faster than torch.std.
        deviation = (flat.square().mean(1) - mean.square()).clamp(min=1e-6).sqrt()
        parts.append((inside - mean) / deviation)
    return F.normalize(torch.cat([F.normalize(part, dim=1) for part in parts], 1), dim=1)


def assign(similarity: Tensor, least: float, margin: float) -> list[int | None]:
    """Match N candidates with M objects, each at most once, the most similar pair first.

    similarity: (N, M). Returns the object of each candidate, None where no free object has `least`
    similarity, or where the next one is closer than `margin`: rather a new id than a wrong one.
    """
    found: list[int | None] = [None] * len(similarity)
    scores = similarity.cpu().clone()
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
