"""J and F of masks, against counting by hand and pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from sam2vss_ros.evaluation.mask_scores import (
    boundary_f,
    contour,
    innermost,
    mask_iou,
    near,
    tolerance,
)

NONE = np.zeros((100, 150), bool)


def box(x0: int, x1: int, y0: int = 30, y1: int = 70) -> np.ndarray:
    mask = NONE.copy()
    mask[y0:y1, x0:x1] = True
    return mask


def blob(seed: int) -> np.ndarray:
    """A ragged mask: what is above the mean of coarse noise."""
    coarse = np.random.default_rng(seed).random((10, 15))
    return (coarse > 0.7).repeat(10, 0).repeat(10, 1)


def test_iou_by_hand() -> None:
    assert mask_iou(box(20, 60), box(20, 60)) == 1
    assert mask_iou(box(20, 60), box(30, 70)) == pytest.approx(30 / 50)
    assert mask_iou(box(20, 60), box(70, 90)) == 0
    assert mask_iou(NONE, NONE) == 1
    assert mask_iou(box(20, 60), NONE) == 0


@pytest.mark.parametrize(("size", "pixels"), [((480, 854), 8), ((360, 480), 5), ((100, 150), 2)])
def test_tolerance_is_a_share_of_the_diagonal(size: tuple[int, int], pixels: int) -> None:
    assert tolerance(*size) == pixels


def test_contour_is_one_pixel_wide() -> None:
    """Above and left of a box, and on its lower and right rim: a frame of one pixel."""
    expected = NONE.copy()
    expected[29:70, 19:60] = True
    expected[30:69, 20:59] = False
    assert (contour(box(20, 60)) == expected).all()


def test_perfect_masks() -> None:
    for mask in (box(20, 60), blob(3), NONE, ~NONE):
        assert boundary_f(mask, mask) == 1
        assert mask_iou(mask, mask) == 1


def test_what_is_not_there() -> None:
    assert boundary_f(box(20, 60), NONE) == boundary_f(NONE, box(20, 60)) == 0
    assert boundary_f(box(10, 30), box(100, 130)) == 0


@pytest.mark.parametrize("shift", [1, 2])
def test_shifts_within_the_tolerance_are_forgiven(shift: int) -> None:
    assert boundary_f(box(20, 60), box(20 + shift, 60 + shift)) == 1


def test_a_shift_beyond_the_tolerance_by_hand() -> None:
    """A contour of 41 x 41 pixels, 160 in all, moved by 10 to the right. The tolerance is 2."""
    truth, found = contour(box(20, 60)), contour(box(30, 70))
    assert truth.sum() == found.sum() == 160
    right = 2 * (41 - 10 + 2)  # of the true rows; the left column is far from all that was found
    right += 2 * 2  # of the right column: what is next to the found rows, which it crosses
    assert boundary_f(box(20, 60), box(30, 70)) == pytest.approx(right / 160)


@pytest.mark.parametrize("seed", range(3))
def test_f_is_that_of_every_pair_of_pixels(seed: int) -> None:
    """Distances between all pixels of both contours, in place of dilation."""
    truth, found = blob(seed), np.roll(blob(seed), (3, 2), (0, 1)) ^ box(40, 44)
    a, b = (np.argwhere(contour(mask)) for mask in (truth, found))
    close = np.square(a[:, None] - b[None]).sum(-1) <= tolerance(*truth.shape) ** 2
    recall, precision = close.any(1).mean(), close.any(0).mean()
    assert 0.1 < precision != recall
    assert boundary_f(truth, found) == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_disk() -> None:
    point = np.zeros((7, 7), bool)
    point[3, 3] = True
    assert ["".join(row) for row in np.where(near(point, 2), "#", ".")[1:6, 1:6]] == [
        "..#..",
        ".###.",
        "#####",
        ".###.",
        "..#..",
    ]


def test_the_innermost_pixel() -> None:
    mask = box(20, 61, 30, 51)
    mask[35, 60:140] = True
    x, y = innermost(mask)
    assert y == 40 and 30 <= x <= 50
    corner = NONE.copy()
    corner[:21, :21] = True
    assert innermost(corner) == (10, 10), "the rim of the image is a border"
    ring = box(20, 60) & ~box(25, 55, 35, 65)
    x, y = innermost(ring)
    assert ring[y, x]
