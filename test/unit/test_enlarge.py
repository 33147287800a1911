"""From the grid of the labels to the image: as OpenCV enlarges and measures the whole image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.stages.enlarge import Enlargement, Extent

SIZES = [((9, 16), (9, 16)), ((9, 16), (18, 32)), ((9, 16), (22, 41)), ((1, 5), (3, 7))]


@pytest.mark.parametrize(("grid", "size"), SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_image_is_that_of_the_nearest_places(
    grid: tuple[int, int], size: tuple[int, int], dtype: type
) -> None:
    map_: npt.NDArray[Any] = np.random.default_rng(0).integers(0, 200, grid).astype(dtype)
    image = Enlargement(grid, size).image(map_)
    expected = cv2.resize(map_, size[::-1], interpolation=cv2.INTER_NEAREST)
    assert image.dtype == dtype and image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(("grid", "size"), SIZES)
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_an_extent_is_that_of_the_large_mask(
    grid: tuple[int, int], size: tuple[int, int], share: float
) -> None:
    owned = np.random.default_rng(1).random(grid) < share
    owned[0, -1] = True
    extent = Enlargement(grid, size).extent(owned)
    large = cv2.resize(owned.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    x, y, width, height = cv2.boundingRect(large)
    assert extent.box == (x, y, width, height)
    assert extent.mask.dtype == bool and extent.mask.flags.c_contiguous
    np.testing.assert_array_equal(extent.mask, large[y : y + height, x : x + width] > 0)
    rows, columns = np.nonzero(large)
    assert extent.area == len(rows)
    assert extent.centroid == pytest.approx((columns.mean(), rows.mean()))


def test_nothing_covers_nothing() -> None:
    extent = Enlargement((4, 6), (8, 12)).extent(np.zeros((4, 6), bool))
    assert extent[:3] == Extent()[:3] == ((0, 0, 0, 0), 0, (0.0, 0.0))
    assert extent.mask.shape == (0, 0)
