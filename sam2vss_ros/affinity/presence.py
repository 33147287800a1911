"""Is a mask that was found on its object, or did the object leave and the mask stay behind?

Reading a memory always gives something: where the thing itself is gone, what is most like it. A
small network weighs the signs of that; what they are is said in `Sign`.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import torch
from torch import Tensor, nn

from sam2vss_ros.sam2.checkpoint import load_weights, read_weights

WIDTH = 16


class Sign(IntEnum):
    """Columns of what the network sees of each object.

    LIKE: cosine similarity of what is under the mask to the object's past; BEGUN: to what was found
    last. AROUND: that of what is around the mask to its past. OTHER: the highest to the past of
    another object. CRISP: how far the mask is from one half (`predicted_iou`). PEAK: the greatest
    logit of the mask. USUAL, LAST: logarithm of its area by the usual one, and by that on the frame
    before. SHARE: logarithm of its share of the image. OWNED: share of the mask that no other
    object claims more. MISSED: logarithm of the frames since the object was seen, and one.
    """

    LIKE = 0
    AROUND = 1
    OTHER = 2
    CRISP = 3
    PEAK = 4
    USUAL = 5
    LAST = 6
    SHARE = 7
    OWNED = 8
    MISSED = 9
    BEGUN = 10


class PresenceNet(nn.Module):
    """(B, signs) -> (B,) logits of the objects being there, under their masks."""

    centre: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(len(Sign)))
        self.register_buffer("scale", torch.ones(len(Sign)))
        self.layers = nn.Sequential(
            nn.Linear(len(Sign), WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, 1),
        )

    def forward(self, signs: Tensor) -> Tensor:
        """As said above; signs are weighed in deviations from their means in training."""
        logits: Tensor = self.layers((signs - self.centre) / self.scale)
        return logits[:, 0]


def load_presence(path: Path, device: torch.device) -> PresenceNet:
    """The network with the weights of a file, ready for inference.

    Raises ModelUnavailableError for a file that cannot be read or holds something else.
    """
    network = PresenceNet()
    load_weights(network, read_weights(path), path, "mobile")
    return network.to(device).eval().requires_grad_(False)
