"""Depth messages to metres, by the fields of the message alone.

As `ros_images`: a message is ROS's own or what `rosbags` makes of its bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, brief
from sam2vss_ros.geometry.depth import Depth, to_metres
from sam2vss_ros.io.encodings import Layout
from sam2vss_ros.io.image_headers import check_pixels, header_size
from sam2vss_ros.io.ros_images import PNG, check_whole, data_of, pixels_of

DEPTH_ENCODINGS = {"16UC1": Layout(1, "u2"), "32FC1": Layout(1, "f4")}
"""Millimetres and metres."""

COMPRESSED = struct.Struct("<iff")
"""What compressed_depth_image_transport puts before the PNG: its kind, and a and b by which
floating point depth is a / (value - b)."""


def depth_of(message: Any, scale: float = 0.0, most_pixels: int = MOST_PIXELS) -> Depth:
    """(H, W) metres of a raw depth image; `scale` as in `to_metres`.

    Raises ImageError for other encodings than 16UC1 and 32FC1, and as `ros_images.pixels_of`.
    """
    return to_metres(pixels_of(message, DEPTH_ENCODINGS, most_pixels), scale)


def compressed_depth_of(message: Any, scale: float = 0.0, most_pixels: int = MOST_PIXELS) -> Depth:
    """The same of what compressed_depth_image_transport sends, as PNG.

    Raises ImageError for other formats, and for data that is corrupt or cut off.
    """
    encoding, _, transport = (part.strip() for part in message.format.partition(";"))
    if encoding not in DEPTH_ENCODINGS or not transport.startswith("compressedDepth"):
        raise ImageError(
            "unknown encoding",
            f"{brief(repr(message.format))} is not depth as compressedDepth has it "
            "(16UC1; compressedDepth png)",
        )
    raw = bytes(data_of(message))
    png = raw[COMPRESSED.size :]
    if not png.startswith(PNG):
        raise ImageError(
            "unknown encoding",
            f"{brief(repr(message.format))} holds no PNG: let the camera compress depth as png",
        )
    pixels = _decoded(png, most_pixels)
    if encoding == "16UC1":
        return to_metres(pixels, scale)
    _, a, b = COMPRESSED.unpack_from(raw)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
    metres[pixels == 0] = np.nan
    return to_metres(metres, scale)


def _decoded(png: bytes, most_pixels: int) -> npt.NDArray[np.uint16]:
    """(H, W) of a PNG of 16 bits."""
    check_pixels(*header_size(png), most_pixels)
    check_whole(png)
    try:
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError("corrupt image", f"{len(png)} bytes are no PNG of 16 bits in one channel")
    return np.asarray(pixels, np.uint16)
