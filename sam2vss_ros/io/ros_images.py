"""Image messages to numpy arrays, by the fields of the message alone.

A message is ROS's own (sensor_msgs/Image, sensor_msgs/CompressedImage) or what `rosbags` makes of
its bytes: the live node and the reader of bags see the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.label_pixels import LabelIds, plain_ids

RgbImage = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """How the pixels of an encoding lie in memory, and OpenCV's code that makes RGB of them."""

    channels: int
    dtype: str = "u1"
    to_rgb: int | None = None  # None: it is RGB already, or no picture


# OpenCV names a Bayer pattern by its second row and column, ROS by its first.
ENCODINGS = {
    "rgb8": Layout(3),
    "bgr8": Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba8": Layout(4, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, to_rgb=cv2.COLOR_GRAY2RGB),
    "mono16": Layout(1, "u2", to_rgb=cv2.COLOR_GRAY2RGB),
    "yuv422": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": Layout(1, to_rgb=cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": Layout(1, to_rgb=cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": Layout(1, to_rgb=cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": Layout(1, to_rgb=cv2.COLOR_BayerGB2RGB),
}

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


def image_to_rgb(message: Any) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a raw image; an rgb8 image is not copied.

    Raises ImageError for an encoding outside ENCODINGS, a zero size and missing data.
    """
    return pixels_to_rgb(pixels_of(message), ENCODINGS[message.encoding])


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


def pixels_of(message: Any, encodings: Mapping[str, Layout] = ENCODINGS) -> npt.NDArray[Any]:
    """The message's pixels, (height, width) or (height, width, channels), as a view of its data.

    Raises ImageError for an encoding outside `encodings`, a zero size and missing data.
    """
    layout = encodings.get(message.encoding)
    if layout is None:
        raise ImageError(
            "unknown encoding", f"{message.encoding!r} is not one of {', '.join(encodings)}"
        )
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise ImageError("zero size", f"the image is {width} x {height} pixels")
    if layout.channels == 2 and width % 2:
        raise ImageError("odd width", f"{message.encoding} has pairs of pixels, width is {width}")
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row = width * layout.channels * dtype.itemsize
    if step < row:
        raise ImageError("truncated data", f"step is {step} bytes, a row of pixels takes {row}")
    if len(message.data) < height * step:
        raise ImageError(
            "truncated data", f"{len(message.data)} bytes of {height} rows of {step} bytes"
        )
    rows = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)[:, :row]
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    return rows.view(dtype).reshape(shape)


def pixels_to_rgb(pixels: npt.NDArray[Any], layout: Layout) -> RgbImage:
    """RGB of the pixels of an encoding. 16 bits are scaled to 8, rounding."""
    if pixels.dtype.itemsize == 2:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if layout.to_rgb is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb))


def compressed_to_rgb(message: Any) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a JPEG or PNG image.

    A camera's pixels stay where its calibration has them: a rotation noted in the file is ignored.
    Raises ImageError for depth images and for data that is corrupt or cut off.
    """
    if "compressedDepth" in message.format:
        raise ImageError("not a colour image", f"its format is {message.format!r}")
    data = np.frombuffer(message.data, np.uint8)
    complaint = ImageError("corrupt image", f"{len(data)} bytes of format {message.format!r}")
    # OpenCV fills the missing rows of a JPEG with grey and says nothing. A whole one has an end
    # marker (ffd9) after the start of its last scan (ffda); neither occurs inside coded pixels.
    raw = data.tobytes()
    if raw.startswith(b"\xff\xd8") and raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda"):
        raise ImageError("corrupt image", f"the JPEG is cut off after {len(raw)} bytes")
    if not raw:
        raise complaint
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise complaint from error
    if bgr is None:
        raise complaint
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
