"""A second look at an image: at mirror images of it, of its own size or of others.

Averaging over sizes and mirror images is common where time does not count (Chen et al., "Rethinking
Atrous Convolution", 2017, section 4). Along the optical flow what a second look said counts for the
frames that follow, too (`stream.smoothing`), so one frame in a few is looked at again, at one
mirror image, and the first of a stream and after a break. Images of which the last one tells little
are all seen larger and smaller instead, where there is time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.stream.motion import Flow

AMONG_OTHERS = (1.0,)
ALONE = (1.5, 0.75)
"""Sizes of the mirror images, by that of the first look, of a frame among others and of one that
stands alone."""

BELIEVED = 0.5
"""Mean belief in the flow below which a frame stands alone. Videos of 15 Hz have 0.6 and more,
images a second apart hardly 0.3."""

WEIGHT = 2 / 3
"""Of the second looks in the mean of all."""


def sizes(
    anew: bool, flow: Flow | None, index: int, interval: int, hurried: bool = False
) -> tuple[float, ...]:
    """Of the mirror images of frame `index` of a stream, none where one look has to do.

    anew: the stream begins or is broken here. flow: to the frame before, None where there is none.
    interval: frames from one second look to the next; 1: all are looked at as if they stood alone;
    0: none but where the stream is `anew`. hurried: frames are being dropped, none is taken for
    alone.
    """
    anew = anew or flow is None
    alone = interval == 1 or (flow is not None and flow.belief() < BELIEVED)
    if alone and interval and not anew and not hurried:
        return ALONE
    return AMONG_OTHERS if anew or (interval and index % interval == 0) else ()


def joined(first: Tensor, second: Sequence[Tensor]) -> Tensor:
    """All looks as one, of the size of the first: (K, h, w) log probabilities."""
    size = (first.shape[-2], first.shape[-1])
    fitted = [
        F.interpolate(look[None], size, mode="bilinear", align_corners=False)[0] for look in second
    ]
    return first.lerp(torch.stack(fitted).mean(0), WEIGHT).log_softmax(0)
