"""Sizes from headers, and images that would take too much memory."""

from __future__ import annotations

import io
import resource
import struct
import time
import tracemalloc
import warnings
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.image_headers import check_pixels, header_size
from sam2vss_ros.io.ros_images import compressed_to_rgb, image_to_rgb

SIZE = 38, 24
FORMATS = [".jpg", ".png", ".webp", ".tiff", ".bmp", ".ppm"]


def message(data: bytes, format_: str = "") -> SimpleNamespace:
    return SimpleNamespace(format=format_, data=data)


def peak_memory() -> float:
    """Bytes that this process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def written(
    format_: str, size: tuple[int, int] = SIZE, mode: str = "RGB", **options: object
) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 90).save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of black pixels, of which a few rows are there: some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + width) * 10, 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("extension", FORMATS)
def test_sizes_of_what_opencv_writes(extension: str) -> None:
    shape = 96, 153, 3
    data = cv2.imencode(extension, np.zeros(shape, np.uint8))[1].tobytes()
    assert header_size(data) == (153, 96)
    assert compressed_to_rgb(message(data)).shape == shape


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"lossless": True}), ("RGBA", {}), ("RGB", {"exif": b"Exif\0\0"})],
)
@pytest.mark.parametrize("size", [(1, 7), (300, 2), (16383, 1)])
def test_sizes_of_webp(size: tuple[int, int], mode: str, options: dict[str, object]) -> None:
    assert header_size(written("WEBP", size, mode, **options)) == size


def test_a_file_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"before" + written("PNG"))
    file.seek(6)
    assert header_size(file) == SIZE
    assert file.tell() == 6


@pytest.mark.parametrize("data", [b"", b"text", b"RIFF", b"BM", b"II*\0", b"P6\n", b"\xff\xd8\xff"])
def test_damaged_headers(data: bytes) -> None:
    with pytest.raises(ImageError) as error:
        header_size(data)
    assert error.value.reason == "corrupt image"


@pytest.mark.parametrize("cut", [9, 20, 26])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_files_cut_off_in_their_header(format_: str, cut: int) -> None:
    with pytest.raises(ImageError, match="corrupt image"):
        compressed_to_rgb(message(written(format_)[:cut]))


@pytest.mark.parametrize("side", [12_000, 30_000, 60_000])
def test_a_small_file_of_many_pixels_takes_no_memory(side: int) -> None:
    data = huge_png(side, side)
    before, start = peak_memory(), time.monotonic()
    tracemalloc.start()
    with (
        warnings.catch_warnings(),
        pytest.raises(ImageError, match=f"{side} x {side}, max_image_pixels allows") as error,
    ):
        warnings.simplefilter("error")
        compressed_to_rgb(message(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.value.reason == "too many pixels"
    assert peak < 5e6 and peak_memory() - before < 50e6
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("padding", [1, 5, 9, 4096])
def test_padding_behind_an_image_is_no_damage(format_: str, padding: int) -> None:
    data = written(format_) + b"\0" * padding
    assert compressed_to_rgb(message(data)).shape == (SIZE[1], SIZE[0], 3)


def test_a_chunk_that_claims_to_be_large_takes_no_memory() -> None:
    data = bytearray(written("PNG"))
    data[33] = 0x9A  # the first byte of the length of the chunk behind the header
    before = peak_memory()
    with pytest.raises(ImageError, match=f"the PNG is cut off after {len(data)} bytes"):
        compressed_to_rgb(message(bytes(data)))
    assert peak_memory() - before < 50e6


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_damaged_files_are_decoded_or_refused(format_: str) -> None:
    rng = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_)
    before, refused = peak_memory(), 0
    for _ in range(300):
        data = bytearray(file.getvalue())
        for _ in range(rng.integers(1, 5)):
            place = rng.integers(0, 64 if rng.random() < 0.5 else len(data))
            data[place : place + rng.integers(2)] = rng.bytes(rng.integers(3))
        try:
            compressed_to_rgb(message(bytes(data)), 1_000_000)
        except ImageError as error:
            assert len(str(error)) < 1000
            refused += 1
    assert refused > 20 and peak_memory() - before < 200e6


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_the_limit_holds_for_every_format(format_: str) -> None:
    data, pixels = written(format_), SIZE[0] * SIZE[1]
    assert compressed_to_rgb(message(data), pixels).shape == (SIZE[1], SIZE[0], 3)
    with pytest.raises(ImageError, match=f"38 x 24, max_image_pixels allows {pixels - 1} pixels"):
        compressed_to_rgb(message(data), pixels - 1)


def test_the_limit_holds_for_raw_images() -> None:
    for encoding, length in (("mono8", 24 * 38), ("nv12", 36 * 38)):
        raw = SimpleNamespace(
            encoding=encoding, height=24, width=38, step=38, is_bigendian=0, data=bytes(length)
        )
        assert image_to_rgb(raw, 24 * 38).shape == (24, 38, 3)
        with pytest.raises(ImageError, match="38 x 24, max_image_pixels allows 911 pixels"):
            image_to_rgb(raw, 911)


def test_8k_frames_are_allowed() -> None:
    check_pixels(7680, 4320)
    with pytest.raises(ImageError):
        check_pixels(MOST_PIXELS + 1, 1)
