"""Bytes that a GPU holds, as ROS 2 Lyrical hands them over: read like those of any message."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from device_buffers import Buffer
from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.ros_depth import compressed_depth_of, depth_of
from sam2vss_ros.io.ros_images import compressed_to_rgb, image_to_rgb, label_ids

HEIGHT, WIDTH = 12, 20
RGB = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def raw(pixels: np.ndarray, encoding: str, height: int = HEIGHT) -> SimpleNamespace:
    return SimpleNamespace(
        encoding=encoding,
        height=height,
        width=WIDTH,
        step=pixels.nbytes // len(pixels),
        is_bigendian=0,
        data=Buffer(pixels.tobytes()),
    )


def test_numpy_alone_cannot_read_it() -> None:
    """Or this branch would be of no use."""
    with pytest.raises(TypeError):
        np.frombuffer(Buffer(b"12"), np.uint8)  # type: ignore[call-overload]


def test_an_image() -> None:
    message = raw(RGB, "rgb8")
    np.testing.assert_array_equal(image_to_rgb(message), RGB)
    assert message.data.copies == 1


def test_labels_and_depth() -> None:
    np.testing.assert_array_equal(label_ids(raw(RGB[..., 0], "mono8")), RGB[..., 0])
    millimetres = RGB[..., 0].astype(np.uint16) + 1
    metres = depth_of(raw(millimetres, "16UC1"))
    np.testing.assert_allclose(metres, millimetres / 1e3, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["nv12", "i420"])
def test_planes_are_copied_once(encoding: str) -> None:
    planes = np.random.default_rng(4).integers(16, 236, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    message = raw(planes, encoding)
    seen = image_to_rgb(message)
    assert message.data.copies == 1
    message.data = planes.tobytes()
    np.testing.assert_array_equal(seen, image_to_rgb(message))


def test_compressed_images_and_depth() -> None:
    png = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    seen = compressed_to_rgb(SimpleNamespace(format="png", data=Buffer(png)))
    np.testing.assert_array_equal(seen, RGB)
    millimetres = RGB[..., 0].astype(np.uint16) + 1
    data = bytes(12) + cv2.imencode(".png", millimetres)[1].tobytes()
    message = SimpleNamespace(format="16UC1; compressedDepth png", data=Buffer(data))
    np.testing.assert_allclose(compressed_depth_of(message), millimetres / 1e3, rtol=1e-6)


def test_too_few_bytes_are_told_without_a_copy() -> None:
    message = raw(RGB, "rgb8", height=HEIGHT + 1)
    with pytest.raises(ImageError, match="720 bytes of 13 rows of 60 bytes"):
        image_to_rgb(message)
    assert message.data.copies == 0
