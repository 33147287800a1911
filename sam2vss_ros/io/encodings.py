"""The names of pixel formats, of sensor_msgs/image_encodings and what cameras use besides."""

from __future__ import annotations

from dataclasses import dataclass

import cv2


@dataclass(frozen=True)
class Layout:
    """How the pixels of an encoding lie in memory, and OpenCV's code that makes RGB of them."""

    channels: int
    dtype: str = "u1"
    to_rgb: int | None = None  # None: it is RGB already, or no picture


# OpenCV names a Bayer pattern by its second row and column, ROS by its first.
BAYER = {
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
}

ENCODINGS = {
    "rgb8": Layout(3),
    "bgr8": Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba8": Layout(4, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, to_rgb=cv2.COLOR_GRAY2RGB),
    "rgb16": Layout(3, "u2"),
    "bgr16": Layout(3, "u2", to_rgb=cv2.COLOR_BGR2RGB),
    "rgba16": Layout(4, "u2", to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra16": Layout(4, "u2", to_rgb=cv2.COLOR_BGRA2RGB),
    "mono16": Layout(1, "u2", to_rgb=cv2.COLOR_GRAY2RGB),
    # OpenCV's own types, where a driver names no colours: as RViz shows them.
    "8UC1": Layout(1, to_rgb=cv2.COLOR_GRAY2RGB),
    "8UC3": Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    "8UC4": Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    "yuv422": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2),
    **{f"{pattern}8": Layout(1, to_rgb=code) for pattern, code in BAYER.items()},
    **{f"{pattern}16": Layout(1, "u2", to_rgb=code) for pattern, code in BAYER.items()},
}
"""Pixels that lie row after row, each with all of its channels."""


@dataclass(frozen=True)
class Planes:
    """A plane of luma, and chroma after it: `interleaved` in one plane, or a plane each.

    shared: pixels across and down that have one chroma. blue_first: Cb comes before Cr.
    """

    shared: tuple[int, int] = (2, 2)
    interleaved: bool = True
    blue_first: bool = True


PLANAR = {
    "nv12": Planes(),
    "nv21": Planes(blue_first=False),
    "nv16": Planes((2, 1)),
    "nv61": Planes((2, 1), blue_first=False),
    "nv24": Planes((1, 1)),
    "nv42": Planes((1, 1), blue_first=False),
    "i420": Planes(interleaved=False),
    "yuv420": Planes(interleaved=False),
    "yv12": Planes(interleaved=False, blue_first=False),
}

MEASUREMENTS = frozenset(
    f"{kind}C{channels}"
    for kind in ("8S", "16U", "16S", "32S", "32F", "64F")
    for channels in range(1, 5)
)
"""Encodings of numbers that are no colours; 16UC1, say, is depth in millimetres."""

IMAGES = ("jpeg", "jpg", "png", "webp", "tif", "bmp")
VIDEOS = (
    "h264",
    "h.264",
    "x264",
    "avc",
    "h265",
    "h.265",
    "x265",
    "hevc",
    "av1",
    "vp8",
    "vp9",
    "theora",
    "mpeg",
)
"""What the format of a compressed image says where it is read, and where it is a video stream."""
