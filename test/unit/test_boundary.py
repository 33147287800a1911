"""IoU near boundaries, against counting by hand and against erosion mask by mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam2vss_ros.evaluation.boundary import BoundaryIou, TrimapIou, band_width, in_band

A, B, VOID = 0, 1, 2  # two classes: their index images hold 2 for no class


def halves(columns_of_a: int, side: int = 10) -> np.ndarray:
    image = np.full((side, side), B, np.uint8)
    image[:, :columns_of_a] = A
    return image


@pytest.mark.parametrize(
    ("size", "width"), [((360, 480), 12), ((720, 960), 24), ((10, 10), 1), ((1, 1), 1)]
)
def test_band_is_2_percent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert band_width(*size) == width


@pytest.mark.parametrize(("dtype", "step"), [(np.uint8, 60), (np.uint16, 300)])
@pytest.mark.parametrize("width", [1, 4, 40])
def test_one_pass_finds_the_bands_of_all_classes(
    width: int, dtype: type[np.unsignedinteger], step: int
) -> None:
    """What erosion of each class's mask, padded with background, takes away."""
    random = np.random.default_rng(width)
    image = (random.integers(0, 5, (6, 8)) * step).astype(dtype).repeat(9, 0).repeat(7, 1)
    band = in_band(image, width)
    for value in np.unique(image):
        mask = np.pad((image == value).astype(np.uint8), 1)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=width)
        assert ((mask - inside)[1:-1, 1:-1] == (band & (image == value))).all()


def test_boundary_iou_by_hand() -> None:
    """A band of one pixel along the rim of 5x10 rectangles; A is found one column too wide.

    A: 26 true pixels, 28 found, 18 in common. B: 26, 24 and 16.
    """
    boundary = BoundaryIou(2)
    expected = [18 / (26 + 28 - 18), 16 / (26 + 24 - 16)]
    assert boundary.update(halves(5), halves(6)) == pytest.approx(np.mean(expected))
    assert boundary.per_class().tolist() == pytest.approx(expected)
    assert boundary.widths == {(10, 10): 1}


def test_all_frames_count_together() -> None:
    """Twice the frame by hand and once the truth: sums, not a mean of frames."""
    boundary = BoundaryIou(2)
    for found in (6, 6, 5):
        boundary.update(halves(5), halves(found))
    assert boundary.per_class()[A] == pytest.approx((18 + 18 + 26) / (36 + 36 + 26))


def test_void_in_the_band() -> None:
    """The top two rows are void: a band predicted there is a false alarm, or dropped."""
    truth = halves(10)
    truth[:2] = VOID
    boundary = BoundaryIou(2)
    boundary.update(truth, halves(10))
    true, found, on_void = 80 - 8 * 6, 100 - 8 * 8, 10 + 2
    common = found - on_void
    assert boundary.per_class()[A] == pytest.approx(common / (true + found - common))
    assert boundary.per_class_void_out()[A] == pytest.approx(common / true)
    assert np.isnan(boundary.per_class()[B])


def test_trimap_by_hand() -> None:
    """Within five pixels of column 9: A in columns 4 to 9, B in 10 to 14; A is found up to 11."""
    trimap = TrimapIou(2)
    found = halves(12, 20)
    found[:, :3], found[:, 16:] = B, A  # far from any boundary
    assert trimap.update(halves(10, 20), found) == pytest.approx((6 / 8 + 3 / 5) / 2)
    assert trimap.miou() == pytest.approx((6 / 8 + 3 / 5) / 2)


def test_no_boundary_no_trimap() -> None:
    trimap = TrimapIou(2)
    assert np.isnan(trimap.update(halves(10), halves(10))) and np.isnan(trimap.miou())
