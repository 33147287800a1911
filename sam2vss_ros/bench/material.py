"""What is compared: the frames of a recording and the objects that are followed in them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import FrameSource
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, Prompt, instance_value

log = logging.getLogger(__name__)

LEAST_PIXELS = 64
"""Smallest mask prompt in pixels of the model's input: 2 x 2 pixels of its masks."""


def first_frames(source: FrameSource, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The first `count` images of a recording, read one by one.

    Raises InputError where it has fewer: at once if it says so, else at its end.
    """
    if 0 < source.count < count:
        raise _too_short(source, source.count, count)
    return _read(source, count)


def _read(source: FrameSource, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    seen = 0
    for frame in islice(source, count):
        seen += 1
        yield frame.image
    if seen < count:
        raise _too_short(source, seen, count)


def _too_short(source: FrameSource, seen: int, count: int) -> InputError:
    return InputError(f"frames: {source.path} has {seen}, not {count}; give --frames {seen}")


@dataclass(frozen=True)
class Discovery:
    """How objects are found in an image: by the pipeline, as on its first frame.

    Untrained networks find nothing, so with `untrained` the embedded model looks for them, among
    the regions of the dense prediction.
    """

    model: str
    checkpoint: str = ""
    device: str = "auto"
    untrained: bool = False

    def prompts(
        self, image: npt.NDArray[np.uint8], count: int, size: int
    ) -> tuple[list[Prompt], int]:
        """`count` mask prompts of `size` x `size` pixels, and how many of them were discovered.

        Where the pipeline finds fewer, tiles of the image make up the number, and the log says so.
        """
        found = self._find(image, count, size)
        missing = count - len(found)
        if missing:
            log.info("discovery finds %d objects; %d are tiles of the image", len(found), missing)
        return [Prompt(mask=mask) for mask in found + tiles(missing, size)], len(found)

    def _find(
        self, image: npt.NDArray[np.uint8], count: int, size: int
    ) -> list[npt.NDArray[np.bool_]]:
        config = PipelineConfig(device=self.device, max_objects=min(count, 256))
        if self.untrained:
            config = replace(config, discovery="regions")
        else:
            config = replace(config, model=self.model, checkpoint=self.checkpoint)
        answer = VssPipeline(Perception.load(config), config).process(Frame(image, 0))
        values = [instance_value(obj.track_id) for obj in answer.objects]
        masks = [_resized(answer.instance_image == value, size) for value in values]
        return [mask for mask in masks if mask.sum() >= LEAST_PIXELS][:count]


def tiles(count: int, size: int) -> list[npt.NDArray[np.bool_]]:
    """(size, size) bool masks of `count` squares side by side with gaps between them."""
    across = math.ceil(math.sqrt(count))
    masks = []
    for i in range(count):
        row, column = divmod(i, across)
        mask = np.zeros((size, size), bool)
        edges = [int((4 * n + k) * size / (4 * across)) for n in (row, column) for k in (1, 3)]
        mask[edges[0] : edges[1], edges[2] : edges[3]] = True
        masks.append(mask)
    return masks


def _resized(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    scaled = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(scaled >= 0.5)
