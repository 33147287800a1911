"""A second look at an image: its mirror image, a quarter larger.

Averaging over sizes and mirror images is common where time does not count (Chen et al., "Rethinking
Atrous Convolution", 2017, section 4). Along the optical flow what a second look said counts for the
frames that follow, too (`stream.smoothing`), so one frame in a few is looked at again. Where the
frames before say nothing of this one, at the beginning, after a break, and where images follow each
other too slowly, each is.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.stream.motion import Flow

SIZE = 1.25
"""Of the image, as a share of its size at the first look; so it costs half as much again."""

BELIEVED = 0.5
"""Mean belief in the flow from which the past speaks for this frame. Videos of 15 Hz have 0.6 and
more, images a second apart hardly 0.3."""


def is_due(flow: Flow | None, index: int, interval: int) -> bool:
    """Whether frame `index` of a stream is looked at again.

    flow: to the frame before, None for none. interval: frames from one second look to the next
    where the past speaks; 0: there is none there.
    """
    if flow is None or float(flow.places[2].mean()) < BELIEVED:
        return True
    return interval > 0 and index % interval == 0


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Both looks as one: (K, h, w) log probabilities, of which the second are of another size."""
    size = (first.shape[-2], first.shape[-1])
    second = F.interpolate(second[None], size, mode="bilinear", align_corners=False)[0]
    return ((first + second) / 2).log_softmax(0)
