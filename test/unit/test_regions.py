"""Connected regions of equal class."""

from __future__ import annotations

import numpy as np
import pytest

from sam2vss_ros.semantics.regions import areas_of, connected_regions

CLASSES = np.array(
    [
        [7, 7, 2, 2],
        [7, 2, 7, 2],
        [2, 7, 7, 2],
    ]
)


def test_regions_are_numbered_from_1_class_by_class() -> None:
    regions = connected_regions(CLASSES)
    assert regions.dtype == np.int32
    # Class 2 at the right, in the middle and below; then class 7 above and below.
    assert regions.tolist() == [[4, 4, 1, 1], [4, 2, 5, 1], [3, 5, 5, 1]]
    assert areas_of(regions).tolist() == [0, 4, 1, 1, 3, 3]


def test_corners_connect_where_they_are_asked_to() -> None:
    regions = connected_regions(CLASSES, connectivity=8)
    assert regions.tolist() == [[2, 2, 1, 1], [2, 1, 2, 1], [1, 2, 2, 1]]
    assert areas_of(regions).tolist() == [0, 6, 6]


def test_what_is_outside_is_of_no_region_and_parts_regions() -> None:
    inside = np.ones(CLASSES.shape, bool)
    inside[1] = False
    regions = connected_regions(CLASSES, inside)
    assert regions.tolist() == [[4, 4, 1, 1], [0, 0, 0, 0], [2, 5, 5, 3]]
    assert areas_of(regions).tolist() == [0, 2, 1, 1, 2, 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_nothing_inside_has_no_region(dtype: type[np.integer]) -> None:
    regions = connected_regions(np.zeros((2, 3), dtype), np.zeros((2, 3), bool))
    assert not regions.any() and areas_of(regions).tolist() == [0]
    assert areas_of(connected_regions(np.full((2, 3), 9, dtype))).tolist() == [0, 6]
