"""What a point or a box means on the dense prediction."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.semantics.pointing import region_at
from sam2vss_ros.types import Prompt
from squares import box

CLASSES = np.zeros((16, 16), np.int64)
CLASSES[10:] = 1
CLASSES[2:6, 2:6] = 2
CLASSES[2:6, 9:13] = 2


def pointed(*points: tuple[float, float, int]) -> np.ndarray:
    xy = np.array([p[:2] for p in points], np.float32)
    labels = np.array([p[2] for p in points], np.int32)
    return region_at(Prompt(points=xy, point_labels=labels), CLASSES, (32, 64))


def test_a_point_means_the_region_it_lies_on() -> None:
    """The image has 64 x 32 pixels: a cell has 4 x 2."""
    assert np.array_equal(pointed((12, 8, 1)), box(2, 2, 6, 6).numpy())
    assert np.array_equal(pointed((64, 32, 1)), CLASSES == 1), "the corner belongs to the image"


def test_points_add_regions_and_take_them_away() -> None:
    both = box(2, 2, 6, 6).numpy() | box(9, 2, 13, 6).numpy()
    assert np.array_equal(pointed((12, 8, 1), (40, 8, 1)), both)
    assert np.array_equal(pointed((12, 8, 1), (40, 8, 1), (41, 9, 0)), box(2, 2, 6, 6).numpy())
    assert np.array_equal(pointed((12, 8, 1), (13, 9, 0)), box(2, 2, 6, 6).numpy())


def test_a_box_means_the_region_that_fits_it_and_else_itself() -> None:
    fits = region_at(Prompt(box=(33, 3, 55, 13)), CLASSES, (32, 64))
    assert np.array_equal(fits, box(9, 2, 13, 6).numpy())
    nothing = region_at(Prompt(box=(2, 16, 8, 18)), CLASSES, (32, 64))
    assert np.array_equal(nothing, box(0, 8, 2, 9).numpy())
    tiny = region_at(Prompt(box=(63.9, 31.9, 64, 32)), CLASSES, (32, 64))
    assert np.array_equal(tiny, box(15, 15, 16, 16).numpy())
