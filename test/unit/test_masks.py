"""Masks on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from sam2vss_ros.ros.masks import decode_mask, encode_mask


@pytest.mark.parametrize("seed", range(50))
def test_every_mask_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 70, 2)
    mask = rng.random((height, width)) < rng.random()
    packed = encode_mask(mask)
    assert len(packed) == -(-height * width // 8)
    decoded = decode_mask(packed, height, width)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 640), (480, 1), (480, 640)])
@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_come_back(shape: tuple[int, int], value: bool) -> None:
    mask = np.full(shape, value)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), *shape), mask)


def test_a_view_that_is_not_contiguous_comes_back() -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.5
    np.testing.assert_array_equal(
        decode_mask(encode_mask(mask[3:17:2, ::-3]), 7, 10), mask[3:17:2, ::-3]
    )


def test_bytes_and_arrays_decode_alike() -> None:
    mask = np.eye(9, dtype=bool)
    data = encode_mask(mask).tobytes()
    np.testing.assert_array_equal(decode_mask(data, 9, 9), mask)
    np.testing.assert_array_equal(decode_mask(np.frombuffer(data, np.uint8), 9, 9), mask)


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.uint8), np.zeros(4, bool)])
def test_what_is_no_mask_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a mask is"):
        encode_mask(bad)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_data_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="3x4 mask takes 2 bytes"):
        decode_mask(bytes(size), height=4, width=3)
