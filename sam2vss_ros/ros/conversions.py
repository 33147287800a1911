"""Between ROS image messages and numpy arrays.

`image_to_rgb` and `compressed_to_rgb` read what cameras send, `image_message` writes what the node
publishes. `cv_bridge` does the colour conversion where this machine has one that works (checked in
a child process, because one built for another NumPy ends the process at import); the numpy and
OpenCV path beside it is its equal and also takes what older cv_bridges get wrong: padded rows.
"""

from __future__ import annotations

import array
import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

RgbImage = npt.NDArray[np.uint8]


class ImageError(ValueError):
    """A message that holds no usable image. `reason` is short and the same for all of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Layout:
    """How the pixels of an encoding lie in memory, and OpenCV's code that makes RGB of them."""

    channels: int
    dtype: str = "u1"
    to_rgb: int | None = None  # None: it is RGB already


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


def image_to_rgb(message: Image) -> RgbImage:
    """The (height, width, 3) uint8 RGB array of a raw image; an rgb8 image is not copied.

    Raises ImageError for an encoding outside ENCODINGS, a zero size and missing data.
    """
    pixels = pixels_of(message)
    bridge = cv_bridge()
    unpadded = message.step == pixels.nbytes // len(pixels)
    if bridge is not None and unpadded and message.encoding in CV_BRIDGE_ENCODINGS:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    return pixels_to_rgb(pixels, ENCODINGS[message.encoding])


def pixels_of(message: Image) -> npt.NDArray[Any]:
    """The message's pixels, (height, width) or (height, width, channels), as a view of its data.

    Raises ImageError as `image_to_rgb` does.
    """
    layout = ENCODINGS.get(message.encoding)
    if layout is None:
        raise ImageError(
            "unknown encoding", f"{message.encoding!r} is not one of {', '.join(ENCODINGS)}"
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
    """RGB of the pixels of an encoding, without cv_bridge. 16 bits are scaled to 8, rounding."""
    if pixels.dtype.itemsize == 2:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if layout.to_rgb is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb))


def compressed_to_rgb(message: CompressedImage) -> RgbImage:
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


def image_message(pixels: npt.NDArray[Any], encoding: str, header: Header) -> Image:
    """An Image of `pixels`, (H, W) or (H, W, 3) of uint8 or uint16, rows without padding."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    message = Image(header=header, encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // len(pixels)
    data = array.array("B")
    data.frombytes(pixels.data.cast("B"))  # a hundred times faster than an array or list
    message.data = data
    return message


def scaled_camera_info(info: CameraInfo, width: int, height: int, header: Header) -> CameraInfo:
    """The calibration of the camera's image resized to width x height, as image_proc scales it."""
    sx = width / info.width if info.width else 1.0
    sy = height / info.height if info.height else 1.0
    k, p = list(info.k), list(info.p)
    for column, scale in ((0, sx), (2, sx), (4, sy), (5, sy)):
        k[column] *= scale
    for column, scale in ((0, sx), (2, sx), (3, sx), (5, sy), (6, sy), (7, sy)):
        p[column] *= scale
    scaled = CameraInfo(header=header, width=width, height=height)
    scaled.distortion_model, scaled.d, scaled.r, scaled.k, scaled.p = (
        info.distortion_model,
        info.d,
        info.r,
        k,
        p,
    )
    scaled.binning_x, scaled.binning_y = info.binning_x, info.binning_y
    scaled.roi.x_offset, scaled.roi.width = (
        round(v * sx) for v in (info.roi.x_offset, info.roi.width)
    )
    scaled.roi.y_offset, scaled.roi.height = (
        round(v * sy) for v in (info.roi.y_offset, info.roi.height)
    )
    scaled.roi.do_rectify = info.roi.do_rectify
    return scaled


# The names that every ROS distribution's cv_bridge knows; `uyvy` and `yuyv` are newer.
CV_BRIDGE_ENCODINGS = frozenset(ENCODINGS) - {"rgb8", "uyvy", "yuyv"}

PROBE = """
import numpy, cv_bridge
from sensor_msgs.msg import Image
message = Image(height=1, width=2, encoding="bgr8", step=6, data=[1, 2, 3, 4, 5, 6])
rgb = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
assert numpy.array_equal(rgb, [[[3, 2, 1], [6, 5, 4]]])
"""


@lru_cache(maxsize=1)
def cv_bridge() -> Any | None:
    """A CvBridge, or None where ROS has none or has one that does not work beside our NumPy."""
    if importlib.util.find_spec("cv_bridge") is None:
        return None
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=False)
    if probe.returncode != 0:
        return None
    from cv_bridge import CvBridge  # type: ignore[import-not-found]

    return CvBridge()
