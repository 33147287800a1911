"""Sixteen bits become eight: the part of the range that a camera uses, without flicker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.io.contrast import Contrast


def ramp(low: int, high: int) -> npt.NDArray[np.uint16]:
    """(200, 300) uint16 of all values from `low` to `high`."""
    return np.linspace(low, high, 60_000).round().astype(np.uint16).reshape(200, 300)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 4095), (0, 16383), (7000, 8020), (30000, 30600), (60000, 65535)]
)
def test_a_part_of_the_range_fills_all_levels(low: int, high: int) -> None:
    seen = Contrast().eight_bits(ramp(low, high))
    assert (seen.min(), seen.max()) == (0, 255)
    middle = seen.ravel()[30_000]
    assert abs(int(middle) - 128) <= 1


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (5000, 60000)])
def test_the_whole_range_is_scaled_as_it_is(low: int, high: int) -> None:
    pixels = ramp(low, high)
    assert np.array_equal(Contrast().eight_bits(pixels), np.rint(pixels / 257).astype(np.uint8))


@pytest.mark.parametrize("value", [0, 257, 128 * 257, 65535])
def test_an_even_image_is_as_bright_as_its_value(value: int) -> None:
    assert (Contrast().eight_bits(np.full((20, 30), value, np.uint16)) == round(value / 257)).all()


def test_noise_is_not_drawn_apart() -> None:
    seen = Contrast().eight_bits(ramp(8000, 8020))
    assert np.ptp(seen) == 20


def test_dead_pixels_do_not_take_the_contrast() -> None:
    pixels = ramp(7000, 8000)
    pixels[::40, ::40] = 65535
    pixels[1::40, ::40] = 0
    seen = Contrast().eight_bits(pixels)
    assert np.ptp(seen[(pixels > 0) & (pixels < 65535)]) == 255


def test_something_hot_changes_the_rest_little_from_frame_to_frame() -> None:
    contrast, calm = Contrast(), ramp(7000, 8000)
    before = contrast.eight_bits(calm).astype(int)
    hot = calm.copy()
    hot[:30, :30] = 14000
    steps = []
    for _ in range(60):
        now = contrast.eight_bits(hot).astype(int)
        steps.append(np.abs(now - before)[40:].mean())
        before = now
    assert max(steps) < 60  # a range taken anew would move them by 100 at once
    assert steps[-1] < 1 and (before[:30, :30] >= 250).all()


def test_a_range_with_nothing_in_common_is_taken_at_once() -> None:
    contrast = Contrast()
    contrast.eight_bits(ramp(1000, 2000))
    assert np.ptp(contrast.eight_bits(ramp(30000, 31000))) == 255


def test_between_stretched_and_as_it_is_there_is_no_step() -> None:
    spans = np.arange(12_000, 40_000, 100)
    levels = [int(Contrast().eight_bits(ramp(2000, 2000 + s)).max()) for s in spans]
    assert np.abs(np.diff(levels)).max() <= 4


def test_channels_share_the_range_and_byte_order_does_not_matter() -> None:
    pixels = np.stack([ramp(0, 4000), ramp(0, 2000), ramp(0, 1000)], -1)
    seen = Contrast().eight_bits(pixels)
    assert seen[..., 0].max() == 255
    assert 120 <= seen[..., 1].max() <= 135 and 60 <= seen[..., 2].max() <= 70
    assert np.array_equal(Contrast().eight_bits(pixels.astype(">u2")), seen)
