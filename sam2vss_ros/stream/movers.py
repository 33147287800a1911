"""What moves by itself: evidence against the camera's motion, kept from frame to frame.

Optical flow is smooth and runs over the edges of things. Images are sharper: a pixel speaks for a
motion of its own as far as the frame before, moved as the camera did, looks less like this one than
moved along the flow. Where nothing is to be seen both look alike, and the pixel says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.stream.egomotion import Egomotion
from sam2vss_ros.stream.motion import Flow

Array = npt.NDArray[np.float32]

KEEP = 0.8
"""Share of a pixel's past in its evidence, where the flow to it is believed."""

MOVES = 2.5
"""Evidence from which a pixel is held to move by itself."""

MOST = 30.0
"""Evidence of one frame ends here, on both sides."""


@dataclass(frozen=True)
class Moving:
    """What is known of a frame's motion, on half the grid of the flow.

    evidence: (h, w) float32, mean difference in Lab (sum over L, a and b, of 255 each): above 0
    where a pixel moves by itself. lab: (h, w, 3) float32, the image.
    """

    evidence: Array
    lab: Array


class Movers:
    """Gathers the evidence of one stream."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """The next frame has nothing before it."""
        self._egomotion = Egomotion()
        self._past: Moving | None = None

    def add(self, image: npt.NDArray[np.uint8], flow: Flow | None) -> Moving:
        """Take in the next frame. image: (H, W, 3) RGB, of the flow's size (`Motion.image`);
        flow: to the frame before."""
        h, w = image.shape[0] // 2, image.shape[1] // 2
        lab = np.asarray(
            cv2.cvtColor(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
        ).astype(np.float32)
        evidence = np.zeros((h, w), np.float32)
        if flow is not None and self._past is not None and self._past.lab.shape == lab.shape:
            evidence = self._evidence(lab, self._past, flow)
        self._past = Moving(evidence, lab)
        return self._past

    def _evidence(self, lab: Array, past: Moving, flow: Flow) -> Array:
        h, w = past.evidence.shape
        x, y, belief = (
            cv2.resize(plane, (w, h), interpolation=cv2.INTER_AREA)
            for plane in flow.places.cpu().numpy()
        )
        here = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        origin = np.stack([((x + 1) * w - 1) / 2, ((y + 1) * h - 1) / 2])
        camera = self._egomotion.explain(here - origin, belief)
        still = here - camera
        inside = (still >= 0).all(0) & (still[0] <= w - 1) & (still[1] <= h - 1)
        gain = np.abs(lab - _moved(past.lab, still)) - np.abs(lab - _moved(past.lab, origin))
        now = cv2.GaussianBlur(gain.sum(2) * inside, (0, 0), 1).clip(-MOST, MOST)
        weight = KEEP * belief
        out: Array = weight * _moved(past.evidence, origin) + (1 - weight) * now
        return out


def _moved(image: Array, origin: Array) -> Array:
    """(h, w[, C]) whose pixels come from places `origin`, (2, h, w) x and y."""
    moved = cv2.remap(
        image, origin[0], origin[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)
