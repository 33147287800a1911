"""A stream in which boxes in colours move before a wall, and the pipeline that names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from colour_scenes import COLOURS
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.types import Frame, SemanticFrame
from text_models import folder_of

WIDTH, HEIGHT = 160, 120

RED_BOX = (20.0, 30.0, 56.0, 60.0)
"""Of the red box on the first frame: x0, y0, x1, y1."""

BOXES = {"red": (20, 30, 36, 30, 2), "blue": (100, 70, 30, 30, -1)}
"""x, y, width, height and pixels to the right per frame."""


def box_image(index: int, without: str = "") -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3) RGB, frame `index`; `without` names a box that is not there."""
    rng = np.random.default_rng(5)
    image = np.full((HEIGHT, WIDTH, 3), 120.0) + rng.normal(0, 12, (HEIGHT, WIDTH, 1))
    for name, (x, y, width, height, step) in BOXES.items():
        texture = rng.normal(0, 10, (height, width, 1))
        if name != without:
            x += step * index
            image[y : y + height, x : x + width] = np.array(COLOURS[name]) + texture
    return np.clip(image, 0, 255).astype(np.uint8)


def box_frame(index: int, without: str = "") -> Frame:
    """The same as a frame of a stream of 30 per second."""
    return Frame(box_image(index, without), index * 33_000_000)


def word_config(*names: str, family: str = "tipsv2", **options: Any) -> PipelineConfig:
    """Options with these names, of a small input, and a look at every frame."""
    quick: dict[str, Any] = {"device": "cpu", "image_size": 256, "threads": 1, "discovery": "off"}
    quick |= {"carry": "off"}
    return PipelineConfig(vocabulary=names, text_model=folder_of(family), **(quick | options))


def names_of(answer: SemanticFrame) -> dict[int, str]:
    """Track id -> class name of all objects."""
    return {o.track_id: o.class_name for o in answer.objects}
