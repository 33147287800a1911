"""Between ROS image messages and numpy arrays, where ROS is at hand.

`image_to_rgb` reads what cameras send, `image_message` writes what the node publishes. `cv_bridge`
does the colour conversion where this machine has one that works (checked in a child process,
because one built for another NumPy ends the process at import); `sam2vss_ros.io.ros_images` is its
equal and also takes what older cv_bridges get wrong: padded rows.
"""

from __future__ import annotations

import array
import importlib.util
import subprocess
import sys
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.io import ros_images
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.ros_images import RgbImage, on_device, pixels_of


def image_to_rgb(
    message: Image, most_pixels: int = MOST_PIXELS, contrast: Contrast | None = None
) -> RgbImage:
    """As `ros_images.image_to_rgb`."""
    bridge = cv_bridge() if message.encoding in CV_BRIDGE_ENCODINGS else None
    if bridge is not None and not on_device(message):
        pixels = pixels_of(message, most_pixels=most_pixels)
        if message.step == pixels.nbytes // len(pixels):
            return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    return ros_images.image_to_rgb(message, most_pixels, contrast)


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


CV_BRIDGE_ENCODINGS = frozenset(
    ["bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2"]
    + [f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")]
)
"""Those that every ROS distribution's cv_bridge knows and reads as we do; 16 bits it would cut."""

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
