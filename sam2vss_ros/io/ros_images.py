"""Image messages to numpy arrays, by the fields of the message alone.

A message is ROS's own (sensor_msgs/Image, sensor_msgs/CompressedImage) or what `rosbags` makes of
its bytes: the live node and the reader of bags see the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, InputError, brief
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.encodings import ENCODINGS, IMAGES, MEASUREMENTS, PLANAR, VIDEOS, Layout
from sam2vss_ros.io.image_headers import check_pixels, header_size, is_image
from sam2vss_ros.io.label_pixels import LabelIds, plain_ids

RgbImage = npt.NDArray[np.uint8]

LABEL_ENCODINGS = {
    "mono8": Layout(1),
    "8UC1": Layout(1),
    "mono16": Layout(1, "u2"),
    "16UC1": Layout(1, "u2"),
    "8SC1": Layout(1, "i1"),
    "16SC1": Layout(1, "i2"),
    "32SC1": Layout(1, "i4"),
    "rgb8": ENCODINGS["rgb8"],
    "bgr8": ENCODINGS["bgr8"],
    "rgba8": ENCODINGS["rgba8"],
    "bgra8": ENCODINGS["bgra8"],
}
"""One class id per pixel; or the same in every channel, or the colour of a class."""

YUV_TO_RGB = np.array([[1.164, 0, 1.596], [1.164, -0.392, -0.813], [1.164, 2.017, 0]])
YUV_TO_RGB = np.c_[YUV_TO_RGB, -YUV_TO_RGB @ [16, 128, 128]]
"""(3, 4): what RGB takes of Y, Cb and Cr (BT.601, luma from 16 to 235), and what is added."""

PNG = b"\x89PNG\r\n\x1a\n"
START_CODES = b"\0\0\0\1", b"\0\0\1"
"""How a PNG begins, and a piece of an H.264 or H.265 stream."""

COLOURS = ("rgb", "bgr")
DEPTHS = (np.uint8, np.uint16)


def image_to_rgb(
    message: Any, most_pixels: int = MOST_PIXELS, contrast: Contrast | None = None
) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a raw image; an rgb8 image is not copied.

    contrast: of the stream, for images of 16 bits; None: the image stands alone.
    Raises ImageError for an encoding outside ENCODINGS and PLANAR, a zero size, missing data and
    more than `most_pixels` pixels.
    """
    if message.encoding in PLANAR:
        return planes_to_rgb(message, most_pixels)
    pixels = pixels_of(message, most_pixels=most_pixels)
    return pixels_to_rgb(pixels, ENCODINGS[message.encoding], contrast)


def label_pixels(message: Any) -> npt.NDArray[Any]:
    """The (height, width) integers, or (height, width, 3) uint8 RGB, of a raw label image.

    Raises ImageError for an encoding outside LABEL_ENCODINGS, a zero size and missing data.
    """
    pixels, layout = pixels_of(message, LABEL_ENCODINGS), LABEL_ENCODINGS[message.encoding]
    return pixels if layout.channels == 1 else pixels_to_rgb(pixels, layout)


def label_ids(message: Any) -> LabelIds:
    """The (height, width) uint8 or uint16 class ids of a raw label image without colours.

    Ids below 0 are NO_CLASS. Raises ImageError as `label_pixels` does, for colours and for ids
    beyond 16 bits.
    """
    try:
        return plain_ids(label_pixels(message))
    except InputError as error:
        raise ImageError("no class ids", str(error)) from error


def pixels_of(
    message: Any, encodings: Mapping[str, Layout] = ENCODINGS, most_pixels: int = MOST_PIXELS
) -> npt.NDArray[Any]:
    """The message's pixels, (height, width) or (height, width, channels), as a view of its data.

    Raises ImageError for an encoding outside `encodings`, a zero size, missing data and more than
    `most_pixels` pixels.
    """
    layout = encodings.get(message.encoding)
    if layout is None:
        raise unknown_encoding(message.encoding, encodings)
    height, width = message.height, message.width
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * layout.channels * dtype.itemsize
    _check_data(message, row, message.step * height, most_pixels)
    if layout.channels == 2 and width % 2:
        raise ImageError("odd width", f"{message.encoding} has pairs of pixels, width is {width}")
    rows = _rows(data_of(message), 0, height, message.step, row)
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    return rows.view(dtype).reshape(shape)


def unknown_encoding(encoding: str, known: Iterable[str]) -> ImageError:
    """What to say of an encoding that is not among the known ones."""
    hint = ""
    if encoding in MEASUREMENTS:
        hint = "; it holds depths or other measurements, no picture: is the topic the right one?"
    return ImageError(
        "unknown encoding", f"{brief(repr(encoding))} is not one of {', '.join(known)}{hint}"
    )


def planes_to_rgb(message: Any, most_pixels: int = MOST_PIXELS) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a raw image in an encoding of PLANAR.

    Luma has 16 to 235, as of cameras (BT.601); a row of chroma is padded as a row of luma is.
    Raises ImageError for a zero or an odd size, missing data and more than `most_pixels` pixels.
    """
    planes = PLANAR[message.encoding]
    height, width, step = message.height, message.width, message.step
    across, down = planes.shared
    chroma_rows, pairs_step = height // down, 2 * step // across
    start = step * height
    _check_data(message, width, start + chroma_rows * pairs_step, most_pixels)
    if width % across or height % down:
        raise ImageError(
            "odd size",
            f"{message.encoding} has a colour for {across} x {down} pixels, the image is "
            f"{width} x {height}",
        )
    data = data_of(message)
    luma, columns = _rows(data, 0, height, step, width), width // across
    if planes.interleaved:
        pairs = _rows(data, start, chroma_rows, pairs_step, 2 * columns)
        chroma = [pairs[:, 0::2], pairs[:, 1::2]]
    else:
        both = _rows(data, start, 2 * chroma_rows, pairs_step // 2, columns)
        chroma = [both[:chroma_rows], both[chroma_rows:]]
    blue, red = chroma if planes.blue_first else chroma[::-1]
    if planes.shared == (2, 2):
        stacked = np.concatenate([luma.ravel(), blue.ravel(), red.ravel()])
        code = cv2.COLOR_YUV2RGB_I420
        return np.asarray(cv2.cvtColor(stacked.reshape(height * 3 // 2, width), code))
    blue, red = (np.repeat(plane, across, 1) for plane in (blue, red))
    return np.asarray(cv2.transform(np.stack([luma, blue, red], -1), YUV_TO_RGB), np.uint8)


def on_device(message: Any) -> bool:
    """Whether a GPU holds the bytes of a message.

    From ROS 2 Lyrical on such a `uint8[]` is a `rosidl_buffer.Buffer`: it has a length, but NumPy
    cannot read it in place.
    """
    return hasattr(message.data, "backend_type")


def data_of(message: Any) -> Any:
    """The bytes of a message as NumPy reads them; those that a GPU holds are copied."""
    return message.data.to_bytes() if on_device(message) else message.data


def _check_data(message: Any, row: int, needed: int, most_pixels: int) -> None:
    """Compare the fields of a message with its data, before anything is made of them.

    row: bytes that a row of pixels takes. needed: bytes of the whole image.
    """
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise ImageError("zero size", f"the image is {width} x {height} pixels")
    if step < row:
        raise ImageError("truncated data", f"step is {step} bytes, a row of pixels takes {row}")
    if len(message.data) < needed:
        planes = "" if needed == height * step else f" and their colours, {needed} in all"
        raise ImageError(
            "truncated data",
            f"{len(message.data)} bytes of {height} rows of {step} bytes{planes}",
        )
    check_pixels(width, height, most_pixels)


def _rows(data: Any, start: int, count: int, step: int, row: int) -> npt.NDArray[np.uint8]:
    """(count, row) bytes of rows that begin at `start`, `step` bytes apart; a view."""
    return np.frombuffer(data, np.uint8, count * step, start).reshape(count, step)[:, :row]


def pixels_to_rgb(
    pixels: npt.NDArray[Any], layout: Layout, contrast: Contrast | None = None
) -> RgbImage:
    """RGB of the pixels of an encoding. 16 bits become 8 by `contrast`, that of their stream."""
    if pixels.dtype.itemsize == 2:
        pixels = (contrast or Contrast()).eight_bits(pixels)
    if layout.to_rgb is not None:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb))
    return np.ascontiguousarray(pixels)


def compressed_to_rgb(
    message: Any, most_pixels: int = MOST_PIXELS, contrast: Contrast | None = None
) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a JPEG or PNG image, or others that OpenCV reads.

    A camera's pixels stay where its calibration has them: a rotation noted in the file is ignored.
    contrast: of the stream, for images of 16 bits; None: the image stands alone.
    Raises ImageError for depth images, video, data that is corrupt or cut off, and more than
    `most_pixels` pixels, of which only the header is read.
    """
    if "compressedDepth" in message.format:
        raise ImageError("not a colour image", f"its format is {_named(message)}")
    data = np.frombuffer(data_of(message), np.uint8)
    raw = data.tobytes()
    if not is_image(raw):
        raise _no_image(message, raw)
    try:
        width, height = header_size(raw)
    except ImageError as error:
        raise _corrupt(message) from error
    check_pixels(width, height, most_pixels)
    check_whole(raw)
    pixels = _decoded(data)
    if pixels is None or pixels.dtype not in DEPTHS:
        raise _corrupt(message)
    if pixels.dtype == np.uint16:
        pixels = (contrast or Contrast()).eight_bits(pixels)
    if _holds_rgb(message.format):
        return np.asarray(pixels, np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def check_whole(raw: bytes) -> None:
    """Raise ImageError for a JPEG or PNG that is cut off."""
    # OpenCV fills the missing rows of a JPEG with grey and says nothing. A whole one has an end
    # marker (ffd9) after the start of its last scan (ffda); neither occurs inside coded pixels.
    if raw.startswith(b"\xff\xd8") and raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda"):
        raise ImageError("corrupt image", f"the JPEG is cut off after {len(raw)} bytes")
    # For a chunk of a PNG OpenCV takes as much memory as its length says.
    if raw.startswith(PNG):
        at = len(PNG)
        while at + 8 <= len(raw) and raw[at + 4 : at + 8] != b"IEND":
            at += 12 + int.from_bytes(raw[at : at + 4], "big")
        if at > len(raw):
            raise ImageError("corrupt image", f"the PNG is cut off after {len(raw)} bytes")


def _decoded(data: npt.NDArray[np.uint8]) -> npt.NDArray[Any] | None:
    """(H, W, 3) BGR of the bytes of an image file; None where they are damaged."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:
        return None


def _holds_rgb(format_: str) -> bool:
    """Whether the file has red and blue swapped, as image_transport's subscriber reads its format.

    In "rgb8; jpeg compressed bgr8" OpenCV compressed BGR, as it expects it; where no "compressed
    bgr" follows the name of a colour encoding, it was given RGB.
    """
    encoding, semicolon, compressed = format_.partition(";")
    return bool(semicolon) and encoding.startswith(COLOURS) and "compressed bgr" not in compressed


def _no_image(message: Any, raw: bytes) -> ImageError:
    """What to say of data that begins like no image file."""
    name = message.format.lower()
    if any(video in name for video in VIDEOS) or raw.startswith(START_CODES):
        return ImageError(
            "unknown encoding",
            f"{_named(message)} is a video stream, whose frames do not stand alone: let the camera "
            "publish jpeg, or raw images, or decode it before the node, with ffmpeg_image_transport"
            " for example (ros2 run image_transport republish ffmpeg raw)",
        )
    if not name or any(image in name for image in IMAGES):
        return _corrupt(message)
    if name in {known.lower() for known in (*ENCODINGS, *PLANAR)}:
        return ImageError(
            "unknown encoding",
            f"{_named(message)} is not compressed: its place is a sensor_msgs/Image",
        )
    return ImageError(
        "unknown encoding", f"{_named(message)} is not one of jpeg, png, webp, tiff, bmp"
    )


def _corrupt(message: Any) -> ImageError:
    return ImageError("corrupt image", f"{len(message.data)} bytes of format {_named(message)}")


def _named(message: Any) -> str:
    return brief(repr(message.format))
