"""Labelled clouds: byte by byte what their readers expect."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.cloud import LABEL, XYZCPE, PixelLabels, labelled_cloud
from sam2vss_ros.geometry.depth import Depth

CAMERA = PinholeCamera(100.0, 50.0, 1.0, 2.0)
H, W = 3, 4


def scene() -> tuple[Depth, np.ndarray, PixelLabels]:
    depth = np.full((H, W), 2.0, np.float32)
    depth[0, 0] = np.nan
    image = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3) + 100
    classes = np.arange(H * W, dtype=np.uint8).reshape(H, W)
    confidence = np.full((H, W), 51, np.uint8)
    instances = np.full((H, W), 40000, np.uint16)
    entropy = np.linspace(0, 1, H * W, dtype=np.float32).reshape(H, W)
    return depth, image, PixelLabels(classes, confidence, instances, entropy)


def test_xyzcpe_has_the_six_fields_of_autoware() -> None:
    depth, image, labels = scene()
    cloud = labelled_cloud(depth, CAMERA, image, labels, "xyzcpe")
    assert cloud.shape == (H, W) and XYZCPE.itemsize == 24
    at = cloud.tobytes()[24 * (2 * W + 3) :]
    assert struct.unpack_from("<fff", at, 0) == pytest.approx((0.04, 0.0, 2.0))
    assert at[12] == 11
    assert struct.unpack_from("<ff", at, 16) == pytest.approx((0.2, 1.0))
    assert [(n, XYZCPE.fields[n][1]) for n in XYZCPE.names or ()] == [  # type: ignore[index]
        ("x", 0),
        ("y", 4),
        ("z", 8),
        ("class_id", 12),
        ("probability", 16),
        ("entropy", 20),
    ]


def test_label_has_colour_class_instance_and_confidence() -> None:
    depth, image, labels = scene()
    cloud = labelled_cloud(depth, CAMERA, image, labels, "label")
    at = cloud.tobytes()[LABEL.itemsize * (1 * W + 2) :]
    assert struct.unpack_from("<fff", at, 0) == pytest.approx((0.02, -0.04, 2.0))
    red, green, blue = (int(v) for v in image[1, 2])
    assert struct.unpack_from("<I", at, 12)[0] == red << 16 | green << 8 | blue
    assert struct.unpack_from("<H", at, 16) == (6,)
    assert struct.unpack_from("<I", at, 20) == (40000,)
    assert struct.unpack_from("<f", at, 24)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("layout", ["label", "xyzcpe"])
def test_where_there_is_no_depth_there_is_no_point(layout: str) -> None:
    depth, image, labels = scene()
    cloud = labelled_cloud(depth, CAMERA, image, labels, layout)
    for axis in "xyz":
        assert np.isnan(cloud[axis][0, 0]) and np.isfinite(cloud[axis].ravel()[1:]).all()


def test_a_cloud_of_the_labels_size_has_the_nearest_pixels() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 3, (6, 8)).astype(np.float32)
    classes = np.arange(48, dtype=np.uint8).reshape(6, 8)
    labels = PixelLabels(classes, classes, classes.astype(np.uint16))
    image = np.zeros((6, 8, 3), np.uint8)
    whole = labelled_cloud(depth, CAMERA, image, labels, "label")
    half = labelled_cloud(depth, CAMERA, image, labels, "label", (4, 3))
    np.testing.assert_array_equal(half, whole[1::2, 1::2])
    assert labelled_cloud(depth, CAMERA, image, labels, "label", (16, 3)).shape == (3, 16)


def test_what_a_layout_cannot_hold_is_refused() -> None:
    depth, image, labels = scene()
    with pytest.raises(InputError, match="16 bits.*layout label"):
        labelled_cloud(
            depth, CAMERA, image, labels._replace(classes=labels.classes.astype("u2")), "xyzcpe"
        )
    with pytest.raises(InputError, match="entropy"):
        labelled_cloud(depth, CAMERA, image, labels._replace(entropy=None), "xyzcpe")
