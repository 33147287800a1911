"""Ways to follow masks that are given on the first frame of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.bench.flow import SMALLEST, BackwardFlow, moved
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.mask_scores import Mask
from sam2vss_ros.io.readers import DEFAULT_RATE, Rgb, stamp_ns
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, Prompt, instance_value

Size = tuple[int, int]
"""Width and height in pixels."""

FLOW_SIDE = 480
"""Longer side in pixels of the images between which optical flow carries masks."""


class Follower(Protocol):
    """Follows K objects through one video, whose images all have one size (H, W)."""

    def start(self, image: Rgb, masks: Mask) -> None:
        """The first frame and the (K, H, W) masks of the objects there."""

    def step(self, image: Rgb) -> Mask:
        """(K, H, W) masks on the next frame."""


class Copy:
    """Leaves each mask where it was."""

    def start(self, image: Rgb, masks: Mask) -> None:
        """As `Follower.start`."""
        self._masks = masks

    def step(self, image: Rgb) -> Mask:
        """As `Follower.step`."""
        return self._masks


class Flow:
    """Moves the masks by optical flow from frame to frame, on a grid as fine as the flow's."""

    def start(self, image: Rgb, masks: Mask) -> None:
        """As `Follower.start`."""
        height, width = image.shape[:2]
        scale = min(1.0, FLOW_SIDE / max(height, width))
        self._size = width, height
        self._grid = max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))
        self._flow = BackwardFlow()
        self._flow.step(resized(image, self._grid))
        self._soft = [soft_resized(mask, self._grid) for mask in masks]

    def step(self, image: Rgb) -> Mask:
        """As `Follower.step`."""
        places = self._flow.step(resized(image, self._grid))
        assert places is not None
        self._soft = [moved(mask, places, cv2.INTER_LINEAR) for mask in self._soft]
        return np.stack([soft_resized(mask, self._size) >= 0.5 for mask in self._soft])


class PromptedPipeline:
    """The whole pipeline, given the masks as prompts; it looks for nothing else.

    It has room for all of them. size: that of the images it is given; None: as they are. rate: how
    many there are a second. The masks are those of `instance_image`, where each pixel belongs to
    one object.
    """

    def __init__(
        self,
        perception: Perception,
        config: PipelineConfig,
        size: Size | None = None,
        rate: float = DEFAULT_RATE,
    ) -> None:
        self._perception, self._config, self._size = perception, config, size
        self._rate = rate

    def start(self, image: Rgb, masks: Mask) -> None:
        """As `Follower.start`. Raises InputError as `prompt`."""
        size = self._size or size_of(image)
        self.prompt(image, [Prompt(mask=_placed(mask, size)) for mask in masks])

    def prompt(self, image: Rgb, prompts: Sequence[Prompt]) -> Mask:
        """Start the objects of K prompts, which point into the image at the pipeline's `size`.

        Returns their (K, H, W) masks on it. The pipeline sees the image twice, since a prompt
        points into the last frame and holds from the next one on. Raises InputError for options
        that do not do.
        """
        try:
            room = max(self._config.max_objects, len(prompts))
            config = dataclasses.replace(self._config, discovery="off", max_objects=room)
            self._pipeline, self._shown = VssPipeline(self._perception, config), 0
            self._process(image)
            self._ids = [self._pipeline.add_prompt(prompt) for prompt in prompts]
        except ValueError as error:
            raise InputError(str(error)) from error
        return self.step(image)

    def step(self, image: Rgb) -> Mask:
        """As `Follower.step`."""
        instances = self._process(image)
        masks = [instances == instance_value(track) for track in self._ids]
        return np.stack([soft_resized(mask, size_of(image)) >= 0.5 for mask in masks])

    def _process(self, image: Rgb) -> npt.NDArray[np.uint16]:
        shown = resized(image, self._size or size_of(image))
        frame = Frame(shown, stamp_ns(self._shown, self._rate))
        self._shown += 1
        return self._pipeline.process(frame).instance_image


def resized(image: Rgb, size: Size) -> Rgb:
    """An RGB image at another width and height; itself where it has them."""
    if size_of(image) == size:
        return image
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR),
        np.uint8,
    )


def soft_resized(mask: npt.NDArray[np.float32] | Mask, size: Size) -> npt.NDArray[np.float32]:
    """(h, w) float32 of a mask at another width and height: 0..1, the share of each pixel in it."""
    soft = mask.astype(np.float32)
    if size_of(mask) == size:
        return soft
    smaller = size[0] * size[1] < mask.size
    return cv2.resize(soft, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _placed(mask: Mask, size: Size) -> Mask:
    """A mask at another size; of one too small to fill a pixel there, what it fills most."""
    soft = soft_resized(mask, size)
    return np.asarray(soft >= min(0.5, float(soft.max())))


def size_of(image: npt.NDArray) -> Size:
    """Width and height of an image or a mask."""
    return image.shape[1], image.shape[0]
