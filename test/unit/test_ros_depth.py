"""Depth messages, raw and compressed, as cameras and compressed_depth_image_transport send them."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.ros_depth import compressed_depth_of, depth_of


def raw(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Any:
    height, width = pixels.shape
    dtype = pixels.dtype.newbyteorder(">" if big else "<")
    rows = pixels.astype(dtype).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return SimpleNamespace(
        height=height,
        width=width,
        step=rows.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        data=rows.tobytes(),
    )


def compressed(pixels: np.ndarray, format_: str, a: float = 0.0, b: float = 0.0) -> Any:
    png = cv2.imencode(".png", pixels)[1].tobytes()
    return SimpleNamespace(format=format_, data=struct.pack("<iff", 0, a, b) + png)


MM = np.array([[0, 1000, 2500], [65535, 1, 0]], np.uint16)
M = np.array([[np.nan, 1.0, 2.5], [65.535, 0.001, np.nan]], np.float32)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("big", [False, True])
def test_the_encoding_says_the_unit(padding: int, big: bool) -> None:
    np.testing.assert_allclose(depth_of(raw(MM, "16UC1", padding, big)), M, rtol=1e-6)
    np.testing.assert_allclose(depth_of(raw(M, "32FC1", padding, big)), M, rtol=1e-6)
    scaled = depth_of(raw(MM, "16UC1", padding, big), scale=1e-4)
    np.testing.assert_allclose(scaled, M / 10, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["mono16", "64FC1", "rgb8", "16UC2"])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"'{encoding}' is not one of 16UC1, 32FC1"):
        depth_of(raw(MM, encoding))


def test_compressed_millimetres() -> None:
    message = compressed(MM, "16UC1; compressedDepth png")
    np.testing.assert_allclose(compressed_depth_of(message), M, rtol=1e-6)
    message = compressed(MM, "16UC1; compressedDepth")  # as older transports wrote it
    np.testing.assert_allclose(compressed_depth_of(message), M, rtol=1e-6)


def test_compressed_metres_are_quantised_by_their_inverse() -> None:
    # As the transport does: a = q (q + 1), b = 1 - a / most, value = a / depth + b.
    q, most = 100.0, 10.0
    a = q * (q + 1)
    b = 1 - a / most
    metres = np.array([[0.0, 0.5, 2.0, 9.0]], np.float32)
    with np.errstate(divide="ignore"):
        values = np.where(metres > 0, a / metres + b, 0).astype(np.uint16)
    found = compressed_depth_of(compressed(values, "32FC1; compressedDepth png", a, b))
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[0, 1:], metres[0, 1:], rtol=0.01)


def test_compressed_depth_that_is_none() -> None:
    good = compressed(MM, "16UC1; compressedDepth png")
    for message, told in (
        (SimpleNamespace(format="jpeg", data=good.data), "'jpeg' is not depth"),
        (SimpleNamespace(format="16UC1; compressedDepth rvl", data=bytes(40)), "holds no PNG"),
        (SimpleNamespace(format=good.format, data=good.data[:-20]), "cut off"),
        (SimpleNamespace(format=good.format, data=b""), "holds no PNG"),
        (compressed((MM >> 8).astype(np.uint8), good.format), "no PNG of 16 bits"),
    ):
        with pytest.raises(ImageError, match=told):
            compressed_depth_of(message)
    with pytest.raises(ImageError, match="pixels"):
        compressed_depth_of(good, most_pixels=5)
