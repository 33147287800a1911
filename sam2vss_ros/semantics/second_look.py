"""A second look at an image: its mirror image.

Averaging over mirror images is common where time does not count (Chen et al., "Rethinking Atrous
Convolution", 2017, section 4). Along the optical flow what a second look said counts for the frames
that follow, too (`stream.smoothing`), so one frame in a few is looked at again. Where the frames
before say nothing of this one, at the beginning, after a break, and where images follow each other
too slowly, each is.
"""

from __future__ import annotations

from torch import Tensor

from sam2vss_ros.stream.motion import Flow

WEIGHT = 2 / 3
"""Of the second look in the mean of both: of the first ones there are more, on other frames."""

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
    """Both looks as one: (K, h, w) log probabilities."""
    return first.lerp(second, WEIGHT).log_softmax(0)
