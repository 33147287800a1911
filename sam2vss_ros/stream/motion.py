"""Optical flow from frame to frame: found once per frame and camera, shared by all that need it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.resampling import bilinear
from sam2vss_ros.sizes import with_longer_side
from sam2vss_ros.transfer import upload

LONGER_SIDE = 320
"""Pixels of the images between which flow is found."""

ALIKE = 15.0
"""Difference in grey levels (of 255, Gaussian) by which a place no longer looks the same."""

BORDER = 2
"""Width of the border of masks, in their pixels, on which the flow has to be believed, too."""

CLOSE = 2.0
"""Pixels (Gaussian) by which flow forth and back may miss where it began to be believed."""


@dataclass(frozen=True)
class Flow:
    """Where each place of a frame was on the frame before.

    places: (3, h, w) float32: x and y, from -1 to 1 between the image's edges, and from 0 to 1 how
    far that is believed. It is not where the image, moved by the flow, does not match, and where
    the flow back does not lead to where it came from: at what was hidden, and nearly everywhere
    when frames have little in common.
    """

    places: Tensor

    def at(self, size: tuple[int, int], device: torch.device, most: float = 1.0) -> Tensor:
        """The places on a grid of another size (height, width), (3, height, width).

        most: what full belief counts as.
        """
        places = bilinear(upload(self.places, device), size)
        places[2] *= most
        return places

    def after(self, earlier: Flow) -> Flow:
        """Both flows as one: this one to the frame before, `earlier` from that one on back.

        It is believed as far as both are.
        """
        places = carried(earlier.places, self.places, "bilinear")
        places[2] *= self.places[2]
        return Flow(places)

    def belief(self) -> float:
        """How far it is believed, as a mean over the image."""
        return float(self.places[2].mean())


def carried(maps: Tensor, places: Tensor, mode: str = "bicubic") -> Tensor:
    """(C, h, w) maps of the frame before, moved to where they are now; places: `Flow.at`, (3, ...).

    Bicubic, since what is carried on every frame would blur away otherwise.
    """
    return F.grid_sample(maps[None], places[None, :2].permute(0, 2, 3, 1), mode, "border", False)[0]


def along(maps: Tensor, flow: Flow) -> Tensor:
    """(C, h, w) maps of the frame before, moved to where they are now, on their own grid; C may be
    0. Bilinear, for what is found anew every few frames."""
    if not len(maps):
        return maps
    return carried(maps, flow.at((maps.shape[-2], maps.shape[-1]), maps.device), "bilinear")


def belief_on(masks: Tensor, flow: Flow) -> Tensor:
    """(B,) mean belief in the flow on (B, h, w) masks, logits, and their border; 0 where there is
    none."""
    near = F.max_pool2d((masks > 0).float()[:, None], 2 * BORDER + 1, 2, BORDER)
    belief = flow.at((near.shape[-2], near.shape[-1]), masks.device)[2]
    return (near[:, 0] * belief).sum((1, 2)) / near.sum((1, 2, 3)).clamp(min=1)


@dataclass(frozen=True)
class Moved:
    """A frame's flows. image: (h, w, 3) uint8 RGB, the frame at their size; grey: the same.

    step: to the frame before; flow: to the last one that was not passed over. None where there is
    none.
    """

    image: npt.NDArray[np.uint8]
    grey: npt.NDArray[np.uint8]
    step: Flow | None = None
    flow: Flow | None = None


class Motion:
    """Finds the flow between each frame of a stream and the one before (OpenCV's DIS).

    Frames may be passed over: then the flow of the next one leads on to where theirs led. Steps
    from frame to frame, joined, are found more surely than one long one.
    last: the last frame.
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.clear()

    def clear(self) -> None:
        """The next frame has nothing before it."""
        self.last: Moved | None = None
        self._passed: Flow | None = None  # the last frame's, if that was passed over
        self._glanced: tuple[npt.NDArray[np.uint8], Moved] | None = None

    def glance(self, image: npt.NDArray[np.uint8]) -> Moved:
        """The flows of what may become the next frame, an (H, W, 3) RGB image; it is not taken."""
        if self._glanced is None or self._glanced[0] is not image:
            self._glanced = image, self._find(image)
        return self._glanced[1]

    def pass_over(self, moved: Moved) -> None:
        """What was glanced at is the next frame; flows go on leading to the frames before it."""
        self.last, self._passed, self._glanced = moved, moved.flow, None

    def follow(self, image: npt.NDArray[np.uint8]) -> Flow | None:
        """The flow of the next frame, an (H, W, 3) RGB image, to the last one that was not passed
        over; None for the first, and at another size."""
        self.last, self._passed, self._glanced = self.glance(image), None, None
        return self.last.flow

    def _find(self, image: npt.NDArray[np.uint8]) -> Moved:
        height, width = with_longer_side(image.shape[0], image.shape[1], LONGER_SIDE)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        now = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        moved = Moved(np.asarray(small, np.uint8), now)
        if self.last is None or self.last.grey.shape != now.shape:
            return moved
        step = self._between(self.last.grey, now)
        flow = step if self._passed is None else step.after(self._passed)
        return replace(moved, step=step, flow=flow)

    def _between(self, before: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8]) -> Flow:
        height, width = now.shape
        flow = self._dis.calc(now, before, None)  # type: ignore[call-overload]
        back = self._dis.calc(before, now, None)  # type: ignore[call-overload]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x, y = x + flow[..., 0], y + flow[..., 1]
        moved = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = cv2.GaussianBlur(cv2.absdiff(moved, now).astype(np.float32), (0, 0), 1.5)
        returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        miss_x, miss_y = np.moveaxis(np.square(flow + returned), -1, 0)
        miss = miss_x + miss_y  # a tenth of the time that a sum over two takes
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        belief = np.exp(-np.square(change / ALIKE) - miss / CLOSE**2) * inside
        places = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, belief])
        return Flow(torch.from_numpy(places).float())
