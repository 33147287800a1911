"""A second look at an image: its mirror image.

Averaging over mirror images is common where time does not count (Chen et al., "Rethinking Atrous
Convolution", 2017, section 4). Along the optical flow what a second look said counts for the frames
that follow, too (`stream.smoothing`), so one frame in a few is looked at again, and the first one
of a stream and after a break, of which no other frame tells.
"""

from __future__ import annotations

from torch import Tensor

WEIGHT = 2 / 3
"""Of the second look in the mean of both: of the first ones there are more, on other frames."""


def is_due(anew: bool, index: int, interval: int) -> bool:
    """Whether frame `index` of a stream is looked at again.

    anew: the stream begins or is broken here. interval: frames from one second look to the next;
    0: there is none but there.
    """
    return anew or (interval > 0 and index % interval == 0)


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Both looks as one: (K, h, w) log probabilities."""
    return first.lerp(second, WEIGHT).log_softmax(0)
