"""Image messages to arrays and back: every encoding against another implementation, bad data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.image import image_to_cvimage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from device_buffers import Buffer
from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.ros_images import ENCODINGS, compressed_to_rgb, pixels_of, pixels_to_rgb
from sam2vss_ros.ros import conversions
from sam2vss_ros.ros.conversions import (
    cv_bridge,
    image_message,
    image_to_rgb,
    scaled_camera_info,
)

HEIGHT, WIDTH = 24, 38


def smooth_image() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 RGB whose colours change slowly: chroma and Bayer lose little."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + 3 * x, 40 + 5 * y, 200 - 2 * x - y], -1).astype(np.uint8)


def random_message(encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """A message of random pixels, the same for the same arguments, with `padding` bytes per row."""
    layout = ENCODINGS[encoding]
    row = WIDTH * layout.channels * np.dtype(layout.dtype).itemsize
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, row), np.uint8)
    if big_endian:
        pixels = pixels.reshape(HEIGHT, -1, 2)[..., ::-1].reshape(HEIGHT, row)
    rows = np.pad(pixels, ((0, 0), (0, padding)), constant_values=77)
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=row + padding)
    message.is_bigendian = int(big_endian)
    message.data = rows.tobytes()
    return message


def bayer_of(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """The mosaic of a sensor with this `pattern`: two pixels of one row and two of the next."""
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(pattern):
        rows, columns = slice(i // 2, None, 2), slice(i % 2, None, 2)
        mosaic[rows, columns] = rgb[rows, columns, "rgb".index(colour)]
    return mosaic


def yuv422_of(rgb: np.ndarray, order: str) -> np.ndarray:
    """ITU-R BT.601 in limited range, two pixels share their chroma; order: uyvy or yuyv."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = (128 - 0.148 * r - 0.291 * g + 0.439 * b)[:, ::2]
    v = (128 + 0.439 * r - 0.368 * g - 0.071 * b)[:, ::2]
    planes = {"uyvy": (u, y[:, ::2], v, y[:, 1::2]), "yuyv": (y[:, ::2], u, y[:, 1::2], v)}
    return np.stack(planes[order], -1).round().astype(np.uint8).reshape(*rgb.shape[:2], 2)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_equals_rosbags(encoding: str) -> None:
    message = random_message(encoding)
    expected = cv2.cvtColor(image_to_cvimage(message, "bgr8"), cv2.COLOR_BGR2RGB)
    assert np.array_equal(image_to_rgb(message), expected)


def test_equals_cv_bridge() -> None:
    bridge = cv_bridge()
    if bridge is None:
        pytest.skip("this machine has no cv_bridge that works")
    for encoding in conversions.CV_BRIDGE_ENCODINGS:
        message = random_message(encoding)
        own = pixels_to_rgb(pixels_of(message), ENCODINGS[encoding])
        assert np.array_equal(own, bridge.imgmsg_to_cv2(message, "rgb8")), encoding


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_gives_the_colours_back(pattern: str) -> None:
    rgb = smooth_image()
    message = image_message(bayer_of(rgb, pattern), f"bayer_{pattern}8", Header())
    inner = np.s_[2:-2, 2:-2]
    error = np.abs(image_to_rgb(message).astype(int) - rgb)[inner]
    assert error.max() <= 6


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv_gives_the_colours_back(encoding: str, order: str) -> None:
    rgb = smooth_image()
    message = random_message(encoding)
    message.data = yuv422_of(rgb, order).tobytes()
    error = np.abs(image_to_rgb(message).astype(int) - rgb)
    assert error.max() <= 6


@pytest.mark.parametrize("big_endian", [False, True])
def test_mono16_is_scaled_to_8_bits(big_endian: bool) -> None:
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    message = random_message("mono16", big_endian=big_endian)
    message.data = values.astype(">u2" if big_endian else "<u2").tobytes()
    expected = np.round(values / 257).astype(np.uint8)
    assert np.array_equal(image_to_rgb(message), np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_padded_rows(encoding: str) -> None:
    plain, padded = random_message(encoding), random_message(encoding, padding=10)
    assert np.array_equal(image_to_rgb(padded), image_to_rgb(plain))


def test_rgb_is_not_copied() -> None:
    message = random_message("rgb8")
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"encoding": "32FC1"}, "unknown encoding", "'32FC1' is not one of rgb8, bgr8"),
        ({"encoding": ""}, "unknown encoding", "''"),
        ({"width": 0}, "zero size", "0 x 24"),
        ({"height": 0}, "zero size", "38 x 0"),
        ({"step": 100}, "truncated data", "step is 100 bytes, a row of pixels takes 114"),
        ({"data": bytes(1000)}, "truncated data", "1000 bytes of 24 rows of 114 bytes"),
        ({"data": b""}, "truncated data", "0 bytes"),
    ],
)
def test_broken_images(change: dict[str, object], reason: str, detail: str) -> None:
    message = random_message("bgr8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=detail) as error:
        image_to_rgb(message)
    assert error.value.reason == reason


def test_odd_width_of_paired_pixels() -> None:
    message = random_message("yuv422")
    message.width = 37
    with pytest.raises(ImageError, match="width is 37"):
        image_to_rgb(message)


def encoded(extension: str, rgb: np.ndarray) -> bytes:
    return cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_compressed() -> None:
    rgb = smooth_image()
    png = CompressedImage(format="bgr8; png compressed bgr8", data=encoded(".png", rgb))
    assert np.array_equal(compressed_to_rgb(png), rgb)
    jpeg = CompressedImage(format="rgb8; jpeg compressed bgr8", data=encoded(".jpg", rgb))
    assert np.abs(compressed_to_rgb(jpeg).astype(int) - rgb).max() <= 8


def test_grey_jpeg_and_padding_after_its_end() -> None:
    grey = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH), 90, np.uint8))[1].tobytes()
    image = compressed_to_rgb(CompressedImage(format="jpeg", data=grey + bytes(50)))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - 90).max() <= 2


def test_rotation_noted_in_a_jpeg_is_ignored() -> None:
    jpeg = encoded(".jpg", smooth_image())
    # A TIFF directory with one entry: orientation (0x112), one short, 6: turn by 90 degrees.
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4)
    app1 = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(app1) + 2).to_bytes(2, "big") + app1 + jpeg[2:]
    as_noted = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert as_noted is not None and as_noted.shape == (WIDTH, HEIGHT, 3)
    assert compressed_to_rgb(CompressedImage(data=turned)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no image at all", id="foreign"),
        pytest.param(encoded(".jpg", smooth_image())[:-200], id="jpeg cut off"),
        pytest.param(encoded(".jpg", smooth_image())[:100], id="jpeg cut off in its head"),
        pytest.param(encoded(".png", smooth_image())[:60], id="png cut off"),
    ],
)
def test_broken_compressed_images(data: bytes) -> None:
    with pytest.raises(ImageError) as error:
        compressed_to_rgb(CompressedImage(format="jpeg", data=data))
    assert error.value.reason == "corrupt image"


def test_compressed_depth_is_refused() -> None:
    with pytest.raises(ImageError, match="compressedDepth"):
        compressed_to_rgb(CompressedImage(format="16UC1; compressedDepth", data=b"x" * 20))


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"), [("mono8", "u1", 1), ("mono16", "u2", 1), ("rgb8", "u1", 3)]
)
def test_image_message(encoding: str, dtype: str, channels: int) -> None:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    pixels = np.random.default_rng(2).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    header = Header(frame_id="camera_optical")
    message = image_message(np.asfortranarray(pixels), encoding, header)
    assert message.header == header
    assert message.step == WIDTH * pixels.itemsize * channels
    assert not message.is_bigendian
    assert np.array_equal(np.frombuffer(message.data, dtype).reshape(shape), pixels)


def test_camera_info_of_a_resized_image() -> None:
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.1, 0, 0, 0, 0])
    info.k = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
    info.p = [500.0, 0, 320, -50, 0, 510, 240, -6, 0, 0, 1, 0]
    info.roi.x_offset, info.roi.width, info.roi.y_offset, info.roi.height = 64, 320, 48, 240
    header = Header(frame_id="camera_optical")
    half = scaled_camera_info(info, 320, 120, header)
    assert (half.width, half.height, half.header) == (320, 120, header)
    assert list(half.k) == [250, 0, 160, 0, 127.5, 60, 0, 0, 1]
    assert list(half.p) == [250, 0, 160, -25, 0, 127.5, 60, -1.5, 0, 0, 1, 0]
    assert (half.roi.x_offset, half.roi.width) == (32, 160)
    assert (half.roi.y_offset, half.roi.height) == (12, 60)
    assert (half.distortion_model, list(half.d)) == ("plumb_bob", list(info.d))


def install_cv_bridge(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a cv_bridge of this source where this process and its children find it."""
    (folder / "cv_bridge.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    cv_bridge.cache_clear()


@pytest.fixture
def fresh_cv_bridge() -> Iterator[None]:
    """Forget afterwards what was found."""
    yield
    cv_bridge.cache_clear()
    sys.modules.pop("cv_bridge", None)


@pytest.mark.usefixtures("fresh_cv_bridge")
def test_cv_bridge_that_kills_the_process_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_cv_bridge(tmp_path, "import os; os.abort()", monkeypatch)
    assert cv_bridge() is None
    assert image_to_rgb(random_message("bgr8")).shape == (HEIGHT, WIDTH, 3)


WORKING_CV_BRIDGE = """
import cv2, numpy
class CvBridge:
    calls = 0
    def imgmsg_to_cv2(self, message, encoding):
        assert (message.encoding, encoding) == ("bgr8", "rgb8")
        CvBridge.calls += 1
        shape = message.height, message.width, 3
        return cv2.cvtColor(
            numpy.frombuffer(message.data, numpy.uint8).reshape(shape), cv2.COLOR_BGR2RGB)
"""


@pytest.mark.usefixtures("fresh_cv_bridge")
def test_cv_bridge_that_works_is_used_for_rows_without_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, padded = random_message("bgr8"), random_message("bgr8", padding=3)
    expected = image_to_rgb(plain)
    install_cv_bridge(tmp_path, WORKING_CV_BRIDGE, monkeypatch)
    assert np.array_equal(image_to_rgb(plain), expected)
    assert np.array_equal(image_to_rgb(padded), expected)
    bridge: Any = cv_bridge()
    assert bridge.calls == 1
    fields = {name: getattr(plain, name) for name in ("encoding", "height", "width", "step")}
    held = SimpleNamespace(**fields, is_bigendian=0, data=Buffer(plain.data.tobytes()))
    assert np.array_equal(image_to_rgb(held), expected)  # which cv_bridge could not read
    assert bridge.calls == 1
