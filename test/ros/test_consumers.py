"""Our messages, decoded by the rules of those who take them: Hydra, Autoware, nvblox.

Nav2's layer is in vision/test_nav2.py.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from depth_scene import CAR, CAR_METRES, TRACK_ID, DepthScene, K, metres
from harness import HEIGHT, RELIABLE, WIDTH, Start, header

INTEGERS = {
    PointField.INT8: "b", PointField.UINT8: "B", PointField.INT16: "h", PointField.UINT16: "H",
    PointField.INT32: "i", PointField.UINT32: "I",
}  # fmt: skip


def hydra_point(cloud: PointCloud2, row: int, column: int) -> dict[str, Any]:
    """As Hydra's reader: position as float32, colour as float32 or uint32, and an integer of 8 to
    32 bits as label, found by name, offset, point_step and row_step; floats are refused."""
    fields = {f.name: f for f in cloud.fields}
    start = row * cloud.row_step + column * cloud.point_step
    order = ">" if cloud.is_bigendian else "<"
    for name in "xyz":
        assert fields[name].datatype == PointField.FLOAT32
    assert fields["rgb"].datatype in (PointField.FLOAT32, PointField.UINT32)
    assert fields["label"].datatype in INTEGERS, "a label is an integer"
    kinds = {"x": "f", "y": "f", "z": "f", "rgb": "I", "label": INTEGERS[fields["label"].datatype]}
    return {
        name: struct.unpack_from(order + kind, cloud.data, start + fields[name].offset)[0]
        for name, kind in kinds.items()
    }


def test_hydra_reads_the_cloud_and_the_label_image(start: Start) -> None:
    bench = start(min_class_score=0.0, discovery="off", depth_slop=2.0)
    labels = bench.record("/vss/label_image", Image)
    clouds = bench.record("/vss/labelled_cloud", PointCloud2)
    DepthScene(bench).ready().send(100)
    cloud, label = bench.wait_for_answer(clouds, 100), bench.wait_for_answer(labels, 100)
    # Its images come as rgb, depth and labels of one size, paired by their stamps.
    assert label.header == cloud.header == header(100)
    assert (label.width, label.height, label.encoding) == (WIDTH, HEIGHT, "mono8")
    ids = np.frombuffer(label.data, np.uint8).reshape(HEIGHT, WIDTH)
    for row, column in ((80, 50), (70, 40), (110, 120)):
        point = hydra_point(cloud, row, column)
        assert point["label"] == ids[row, column]
        distance = metres()[row, column]
        assert point["z"] == pytest.approx(distance)
        assert point["x"] == pytest.approx((column - K[2]) / K[0] * distance, abs=1e-5)
        assert point["y"] == pytest.approx((row - K[5]) / K[4] * distance, abs=1e-5)
    red, green, blue = (hydra_point(cloud, 80, 50)["rgb"] >> shift & 255 for shift in (16, 8, 0))
    assert red > 150 > green and blue < 100  # the car


def test_autoware_reads_its_six_fields(start: Start) -> None:
    """Six fields in this order and no more, 24 bytes each."""
    bench = start(min_class_score=0.0, discovery="off", depth_slop=2.0, cloud_layout="xyzcpe")
    labels = bench.record("/vss/label_image", Image)
    confidences = bench.record("/vss/confidence_image", Image)
    clouds = bench.record("/vss/labelled_cloud", PointCloud2)
    DepthScene(bench).ready().send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    ids, sure = (
        np.frombuffer(bench.wait_for_answer(m, 100).data, np.uint8).reshape(HEIGHT, WIDTH)
        for m in (labels, confidences)
    )
    float32 = PointField.FLOAT32
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, float32, 1), ("y", 4, float32, 1), ("z", 8, float32, 1),
        ("class_id", 12, PointField.UINT8, 1),
        ("probability", 16, float32, 1), ("entropy", 20, float32, 1),
    ]  # fmt: skip
    assert cloud.point_step == 24 and cloud.row_step == 24 * cloud.width
    assert len(cloud.data) == cloud.row_step * cloud.height
    points = list(struct.iter_unpack("<fffB3xff", cloud.data))
    for row, column in ((80, 50), (70, 40), (110, 120)):
        _, _, z, class_id, probability, entropy = points[row * WIDTH + column]
        assert z == pytest.approx(metres()[row, column])
        assert class_id == ids[row, column]
        assert probability == pytest.approx(sure[row, column] / 255, abs=1 / 255)
        assert 0 <= entropy <= np.log(11) + 1e-4


def test_nvblox_splits_depth_by_a_mask(start: Start) -> None:
    """It brings each point of depth into the mask's image by the mask's own calibration; what is
    not 0 there is dynamic (`splitImageKernel`)."""
    bench = start(
        min_class_score=0.0, discovery="off", depth_slop=2.0, output_width=80,
        masks=["all=Building,Pole,Road,Pavement,Tree,SignSymbol,Fence,Car,Pedestrian,Bicyclist"],
    )  # fmt: skip
    labels = bench.record("/vss/label_image", Image)
    masks = bench.record("/vss/mask/all", Image)
    infos = bench.record("/vss/mask/camera_info", CameraInfo)
    camera_infos = bench.camera.create_publisher(CameraInfo, "camera_info", RELIABLE)
    bench.active()
    bench.ros.wait_until(camera_infos.get_subscription_count, "the calibration's subscriber")
    camera_infos.publish(CameraInfo(header=header(100), width=WIDTH, height=HEIGHT, k=K))
    channel = bench.node._channels[0]
    bench.ros.wait_until(
        lambda: channel._camera is not None and channel._camera.camera_info, "the calibration"
    )
    bench.send(100)
    mask, info = bench.wait_for_answer(masks, 100), bench.wait_for_answer(infos, 100)
    ids = np.frombuffer(bench.wait_for_answer(labels, 100).data, np.uint8).reshape(60, 80)
    pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
    depth = metres()
    rows, columns = np.nonzero(np.isfinite(depth))
    x = (columns - K[2]) / K[0] * depth[rows, columns]
    y = (rows - K[5]) / K[4] * depth[rows, columns]
    u = np.round(x / depth[rows, columns] * info.k[0] + info.k[2]).astype(int)
    v = np.round(y / depth[rows, columns] * info.k[4] + info.k[5]).astype(int)
    inside = (u >= 0) & (v >= 0) & (u < mask.width) & (v < mask.height)
    assert inside.mean() > 0.95  # one calibration for both, but for the scale
    dynamic = pixels[v[inside], u[inside]] != 0
    np.testing.assert_array_equal(dynamic, ids[v[inside], u[inside]] != 0)  # 0 is the sky
    assert dynamic.any()


def test_ids_of_objects_are_those_of_the_cloud(start: Start) -> None:
    bench = start(discovery="off", depth_slop=2.0)
    clouds = bench.record("/vss/labelled_cloud", PointCloud2)
    DepthScene(bench).ready().send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    (field,) = (f for f in cloud.fields if f.name == "instance")
    assert field.datatype == PointField.UINT32
    data = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
    ids = np.ascontiguousarray(data[..., field.offset : field.offset + 4]).view("<u4")[..., 0]
    assert (ids[CAR] == TRACK_ID).mean() > 0.8 and metres()[CAR].max() == CAR_METRES
