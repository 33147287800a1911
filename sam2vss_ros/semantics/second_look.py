"""A second look, at a small mirror image, where the frames before say nothing of this one.

Where the optical flow is believed, many looks at a thing are joined already (`stream.smoothing`).
On the first frame, after a break, and where images follow each other too slowly, there is one look
alone: then the head also sees the mirror image, at a size at which it takes in more of the scene.
Averaging over sizes and mirror images is common where time does not count (Chen et al., "Rethinking
Atrous Convolution", 2017, section 4).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.stream.motion import Flow

SIZE = 0.625
"""Of the image, as a share of its size at the first look; so it costs two fifths of that."""

WEIGHT = 1 / 3
"""Of the second look in the mean of both."""

BELIEVED = 0.5
"""Mean belief in the flow from which the past speaks for this frame. Videos of 15 Hz have 0.6 and
more, images a second apart hardly 0.3."""


def is_due(flow: Flow | None) -> bool:
    """Whether the past says too little of a frame. flow: to the frame before, None for none."""
    return flow is None or float(flow.places[2].mean()) < BELIEVED


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Both looks as one: (K, h, w) log probabilities, of which the second are of another size."""
    size = (first.shape[-2], first.shape[-1])
    second = F.interpolate(second[None], size, mode="bilinear", align_corners=False)[0]
    return first.lerp(second, WEIGHT).log_softmax(0)
