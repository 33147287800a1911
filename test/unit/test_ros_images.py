"""Image messages in the encodings of cameras: read right, or refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.encodings import ENCODINGS, MEASUREMENTS, PLANAR
from sam2vss_ros.io.ros_images import compressed_to_rgb, image_to_rgb

HEIGHT, WIDTH = 24, 40
# fmt: off
PICTURES = [
    "rgb8", "rgba8", "rgb16", "rgba16", "bgr8", "bgra8", "bgr16", "bgra16", "mono8", "mono16",
    "8UC1", "8UC3", "8UC4", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8",
    "bayer_rggb16", "bayer_bggr16", "bayer_gbrg16", "bayer_grbg16", "uyvy", "yuv422", "yuyv",
    "yuv422_yuy2", "nv21", "nv24",
]
# fmt: on
"""Those of sensor_msgs/image_encodings that are pictures."""

NUMBERS = [
    f"{kind}C{n}" for kind in ("8S", "16U", "16S", "32S", "32F", "64F") for n in (1, 2, 3, 4)
]


def scene() -> npt.NDArray[np.uint8]:
    """(HEIGHT, WIDTH, 3) uint8 RGB whose colours change slowly, so that chroma loses little."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + 3 * x, 40 + 5 * y, 200 - 2 * x - y], -1).astype(np.uint8)


def message(
    encoding: str, rows: npt.NDArray[np.uint8] | bytes, step: int, **fields: int
) -> SimpleNamespace:
    data = rows if isinstance(rows, bytes) else rows.tobytes()
    values = {"height": HEIGHT, "width": WIDTH, "is_bigendian": 0} | fields
    return SimpleNamespace(encoding=encoding, step=step, data=data, **values)


def error_of(seen: npt.NDArray[np.uint8]) -> int:
    assert seen.shape == (HEIGHT, WIDTH, 3) and seen.dtype == np.uint8
    return int(np.abs(seen.astype(int) - scene()).max())


def yuv(rgb: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Y, Cb and Cr at every pixel: ITU-R BT.601, luma from 16 to 235."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return [plane.round().astype(np.uint8) for plane in (y, u, v)]


def planar(encoding: str, padding: int) -> SimpleNamespace:
    """The scene in planes, as cameras lay them out; a row of luma has `padding` bytes more."""
    luma, blue, red = yuv(scene())
    across, down = {"nv16": (2, 1), "nv61": (2, 1), "nv24": (1, 1), "nv42": (1, 1)}.get(
        encoding, (2, 2)
    )
    chroma = [blue[::down, ::across], red[::down, ::across]]
    if encoding in ("nv21", "nv61", "nv42", "yv12"):
        chroma.reverse()
    if encoding.startswith("nv"):
        chroma = [np.stack(chroma, -1).reshape(len(chroma[0]), -1)]
    wider = [padding, *[padding * plane.shape[1] // WIDTH for plane in chroma]]
    parts = [
        np.pad(plane, ((0, 0), (0, more)), constant_values=9).tobytes()
        for plane, more in zip([luma, *chroma], wider, strict=True)
    ]
    return message(encoding, b"".join(parts), WIDTH + padding)


@pytest.mark.parametrize("padding", [0, 24])
@pytest.mark.parametrize("encoding", list(PLANAR))
def test_planes_give_the_colours_back(encoding: str, padding: int) -> None:
    assert error_of(image_to_rgb(planar(encoding, padding))) <= 9


@pytest.mark.parametrize("encoding", list(PLANAR))
def test_planes_that_are_not_whole(encoding: str) -> None:
    whole = planar(encoding, 8)
    whole.data = whole.data[:-1]
    with pytest.raises(
        ImageError, match=r"bytes of 24 rows of 48 bytes and their colours"
    ) as error:
        image_to_rgb(whole)
    assert error.value.reason == "truncated data"
    whole.step = WIDTH - 1
    with pytest.raises(ImageError, match="step is 39 bytes, a row of pixels takes 40"):
        image_to_rgb(whole)


@pytest.mark.parametrize("side", ["height", "width"])
def test_planes_of_an_odd_size(side: str) -> None:
    odd = planar("nv12", 0)
    setattr(odd, side, getattr(odd, side) - 1)
    with pytest.raises(ImageError, match="a colour for 2 x 2 pixels") as error:
        image_to_rgb(odd)
    assert error.value.reason == "odd size"


@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16"])
def test_sixteen_bit_colours(encoding: str, big_endian: int) -> None:
    pixels = scene() if encoding.startswith("rgb") else scene()[..., ::-1]
    if "a" in encoding:
        pixels = np.dstack([pixels, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rows = (pixels.astype(np.uint16) * 257).astype(">u2" if big_endian else "<u2")
    # The range of the scene is most of 16 bits: it is taken as it is.
    seen = image_to_rgb(
        message(encoding, rows.tobytes(), rows.nbytes // HEIGHT, is_bigendian=big_endian)
    )
    assert error_of(seen) == 0


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_of_twelve_bits_has_contrast_and_colours(pattern: str) -> None:
    rgb, mosaic = scene(), np.empty((HEIGHT, WIDTH), np.uint16)
    for i, colour in enumerate(pattern):
        rows, columns = slice(i // 2, None, 2), slice(i % 2, None, 2)
        mosaic[rows, columns] = rgb[rows, columns, "rgb".index(colour)].astype(np.uint16) << 4
    seen = image_to_rgb(message(f"bayer_{pattern}16", mosaic.tobytes(), WIDTH * 2))
    assert np.ptp(seen) > 230
    inner = np.s_[2:-2, 2:-2]
    assert np.corrcoef(seen[inner].ravel(), rgb[inner].ravel())[0, 1] > 0.995


@pytest.mark.parametrize(
    ("encoding", "same"), [("8UC1", "mono8"), ("8UC3", "bgr8"), ("8UC4", "bgra8")]
)
def test_opencvs_own_types_are_read_as_rviz_does(encoding: str, same: str) -> None:
    channels = ENCODINGS[encoding].channels
    data = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH * channels), np.uint8)
    seen, expected = (image_to_rgb(message(e, data, WIDTH * channels)) for e in (encoding, same))
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize("encoding", PICTURES)
def test_every_picture_of_ros_is_read(encoding: str) -> None:
    data = np.random.default_rng(4).integers(0, 256, HEIGHT * WIDTH * 8, np.uint8).tobytes()
    layout = ENCODINGS.get(encoding)
    step = WIDTH * (layout.channels * np.dtype(layout.dtype).itemsize if layout else 1)
    assert image_to_rgb(message(encoding, data, step)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("encoding", NUMBERS)
def test_measurements_are_refused_by_name(encoding: str) -> None:
    assert encoding in MEASUREMENTS
    with pytest.raises(ImageError, match=f"'{encoding}' is not one of rgb8.* depths or") as error:
        image_to_rgb(message(encoding, bytes(100_000), WIDTH * 32))
    assert error.value.reason == "unknown encoding"


def test_a_name_without_end_is_not_repeated() -> None:
    with pytest.raises(ImageError) as error:
        image_to_rgb(message("x" * 1_000_000, b"", 0))
    assert len(str(error.value)) < 1000
    with pytest.raises(ImageError) as error:
        compressed_to_rgb(SimpleNamespace(format="x" * 1_000_000, data=b"abc"))
    assert len(str(error.value)) < 1000


def test_a_stream_of_sixteen_bits_keeps_its_range() -> None:
    contrast = Contrast()
    calm = np.linspace(7000, 8000, HEIGHT * WIDTH).astype("<u2")
    first = image_to_rgb(message("mono16", calm.tobytes(), WIDTH * 2), contrast=contrast)
    wider = calm.copy()
    wider[:200] = 12000
    second = image_to_rgb(message("mono16", wider.tobytes(), WIDTH * 2), contrast=contrast)
    alone = image_to_rgb(message("mono16", wider.tobytes(), WIDTH * 2))
    rest = np.s_[8:]  # unchanged
    moved, anew = (np.abs(x[rest].astype(int) - first[rest]).mean() for x in (second, alone))
    assert moved < 0.5 * anew


# Compressed


def compressed(format_: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=format_, data=data)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_the_order_of_colours_is_that_of_the_format(encoding: str, extension: str) -> None:
    kind = "jpeg" if extension == ".jpg" else "png"
    for stored, pixels in (("bgr8", scene()[..., ::-1]), ("rgb8", scene())):
        data = cv2.imencode(extension, np.ascontiguousarray(pixels), [1, 100])[1].tobytes()
        seen = compressed_to_rgb(compressed(f"{encoding}; {kind} compressed {stored}", data))
        assert error_of(seen) <= 20


@pytest.mark.parametrize("format_", ["png", "jpeg", "", "mono8; png compressed ", "png; anything"])
def test_other_formats_have_the_usual_order(format_: str) -> None:
    data = cv2.imencode(".png", scene()[..., ::-1])[1].tobytes()
    assert error_of(compressed_to_rgb(compressed(format_, data))) == 0


def test_a_png_of_sixteen_bits_has_contrast() -> None:
    pixels = np.linspace(7000, 8020, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    seen = compressed_to_rgb(compressed("mono16; png compressed ", data))
    assert seen.dtype == np.uint8 and np.ptp(seen) == 255


@pytest.mark.parametrize(
    "format_",
    [
        "h264",
        "H.264",
        "h265",
        "hevc",
        "av1",
        "vp9",
        "theora",
        "x264; h264",
        "rgb8; h265 compressed",
    ],
)
def test_video_is_called_by_name(format_: str) -> None:
    with pytest.raises(ImageError) as error:
        compressed_to_rgb(compressed(format_, b"\x12\x00\x0a\x0b" + bytes(range(200))))
    assert error.value.reason == "unknown encoding"
    assert f"{format_!r} is a video stream" in str(error.value)
    assert "ffmpeg_image_transport" in str(error.value) and "corrupt" not in str(error.value)


@pytest.mark.parametrize("format_", ["", "jpeg", "foxglove"])
def test_video_is_known_by_its_start(format_: str) -> None:
    with pytest.raises(ImageError, match="is a video stream"):
        compressed_to_rgb(compressed(format_, b"\0\0\0\1\x67\x42\0\x1e" + bytes(100)))


@pytest.mark.parametrize("format_", ["nv12", "rgb8", "yuv422", "bayer_rggb8", "16UC1"])
def test_raw_pixels_in_a_compressed_message(format_: str) -> None:
    with pytest.raises(ImageError, match=f"unknown encoding: '{format_}'"):
        compressed_to_rgb(compressed(format_, bytes(HEIGHT * WIDTH * 3)))


def test_an_image_is_read_whatever_its_format_says() -> None:
    data = cv2.imencode(".png", scene()[..., ::-1])[1].tobytes()
    assert error_of(compressed_to_rgb(compressed("h264", data))) == 0


def test_floating_point_numbers_are_no_picture() -> None:
    data = cv2.imencode(".tiff", np.ones((HEIGHT, WIDTH, 3), np.float32))[1].tobytes()
    with pytest.raises(ImageError):
        compressed_to_rgb(compressed("tiff", data))
