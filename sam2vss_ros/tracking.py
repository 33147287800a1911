"""What a tracking model is to the rest: images in, features out, and trackers that read them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sam2vss_ros.sam2.cards import ModelCard
from sam2vss_ros.sam2.options import TrackingOptions
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.types import Prompt


class Features(Protocol):
    """What a model says of one image; the rest of it is between the model and its trackers."""

    @property
    def pyramid(self) -> tuple[Tensor, Tensor, Tensor]:
        """(1, C, ., .) maps at strides 4, 8 and 16."""


class Bank(Protocol):
    """What a tracker remembers of one stream."""

    def allocate(self) -> None:
        """Take the memory, where it is not taken yet and the size of the frames is known."""

    def release(self) -> None:
        """Give the memory back; what it held is gone."""

    def nbytes(self) -> int:
        """Bytes of the tensors; constant from the first frame to `release`, then 0."""


class ObjectTracker(Protocol):
    """Follows the objects of one camera stream; see `sam2.tracker.Tracker`.

    may_rest: an object that `step` is not asked for keeps its memory. weighs_signs: whether objects
    are there is decided by `weigh`, not by the score of `step` and likeness.
    """

    may_rest: bool
    weighs_signs: bool
    options: TrackingOptions

    @property
    def bank(self) -> Bank:
        """Its memory."""

    def nothing(self) -> Tracked:
        """A batch without objects; its masks are as large as those of the last frame."""

    def prepare(self, features: Any) -> None:
        """Compute now what `step` will want of an image for the objects there are; any thread may
        do that, for a frame to come."""

    def step(self, features: Any, slots: list[int], flow: Flow | None = None) -> Tracked:
        """Find the objects of `slots`, in their order, on the next frame; flow: to the last."""

    def weigh(self, tracked: Tracked, signs: Tensor) -> Tracked:
        """The objects of `step` with scores by (B, signs), see `affinity.presence.Sign`."""

    def commit(self, features: Any, tracked: Tracked) -> None:
        """Write the objects as seen on this frame to their memory."""

    def start(self, features: Any, seen: Tracked) -> None:
        """Begin objects whose conditioning frame is this one."""

    def from_masks(self, features: Any, slots: list[int], masks: Tensor) -> Tracked:
        """Take (B, h, w) bool masks of any size as given; they are not empty."""

    def from_prompt(
        self, features: Any, slot: int, prompt: Prompt, size: tuple[int, int]
    ) -> Tracked:
        """Decode a user's prompt; `size` is the camera image's (height, width)."""


class TrackingModel(Protocol):
    """A loaded model: its card, its weights, and where they are."""

    @property
    def card(self) -> ModelCard:
        """What is known of it."""

    @property
    def network(self) -> nn.Module:
        """The weights."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    @property
    def dtype(self) -> torch.dtype:
        """The type to run in under `torch.autocast`; float32 means no autocast."""

    @property
    def image_size(self) -> int:
        """Longer side of the input in pixels."""

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the input for an image of `size`, its height and width."""

    def mask_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the trackers' masks for an image of `size`."""

    def encode(self, images: Tensor) -> Any:
        """The `Features` of (B, 3, h, w) normalised images of `input_size`; `select` picks some."""

    def new_tracker(self, slots: int, options: TrackingOptions) -> ObjectTracker:
        """A tracker with a memory of its own."""
