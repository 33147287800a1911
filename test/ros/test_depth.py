"""The real node beside a depth camera: objects in space, clouds, and depth that does not fit."""

from __future__ import annotations

import struct
import time
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, Transform, Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

from harness import HEIGHT, WIDTH, Harness, Start, header
from sam2vss_ros.msg import Object3DArray
from sam2vss_ros.ros import frames, space
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.ros.frames import NoTransformError, matrix_of
from sam2vss_ros.ros.node import WATCH_PERIOD
from sam2vss_ros.types import Prompt

K = [150.0, 0.0, 79.5, 0.0, 150.0, 59.5, 0.0, 0.0, 1.0]
CAR = (slice(65, 95), slice(33, 73))  # rows and columns of the car in the picture


def metres(car: float = 2.0) -> np.ndarray:
    depth = np.full((HEIGHT, WIDTH), 6.0, np.float32)
    depth[: HEIGHT // 2] = np.inf  # the sky
    depth[CAR] = car
    return depth


class DepthCamera:
    """Sends depth when the test says so."""

    def __init__(self, bench: Harness, compressed: bool = False) -> None:
        self._bench = bench
        node = bench.ros.node("depth_camera")
        kind, topic = (CompressedImage, "depth/compressedDepth") if compressed else (Image, "depth")
        self.depths = node.create_publisher(kind, topic, 10)
        self.infos = node.create_publisher(CameraInfo, "depth/camera_info", 10)

    def ready(self) -> DepthCamera:
        self._bench.ros.wait_until(
            lambda: all(p.get_subscription_count() == 1 for p in (self.depths, self.infos)),
            "subscribers of depth",
        )
        return self

    def send(self, milliseconds: int, pixels: np.ndarray | None = None, frame: str = "") -> None:
        pixels = metres() if pixels is None else pixels
        message = Image(header=header(milliseconds), height=pixels.shape[0], width=pixels.shape[1])
        message.header.frame_id = frame or message.header.frame_id
        message.encoding = {2: "16UC1", 4: "32FC1"}[pixels.itemsize]
        message.step = pixels.shape[1] * pixels.itemsize
        message.data = pixels.tobytes()
        self.depths.publish(message)

    def send_png(self, milliseconds: int, millimetres: np.ndarray) -> None:
        png = cv2.imencode(".png", millimetres)[1].tobytes()
        message = CompressedImage(header=header(milliseconds), format="16UC1; compressedDepth png")
        message.data = struct.pack("<iff", 0, 0.0, 0.0) + png
        self.depths.publish(message)

    def send_info(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        info = CameraInfo(header=header(0), width=width, height=height, k=K)
        self.infos.publish(info)


def started(
    start: Start, compressed: bool = False, cloud: bool = False, **parameters: Any
) -> tuple[Harness, DepthCamera, list[Any]]:
    """A node that follows the car alone, a depth camera, and what comes of both."""
    transport = "compressedDepth" if compressed else "raw"
    bench = start(discovery="off", depth_transport=transport, depth_slop=2.0, **parameters)
    heard = (
        bench.record("/vss/labelled_cloud", PointCloud2)
        if cloud
        else bench.record("/vss/objects_3d", Object3DArray)
    )
    camera = DepthCamera(bench, compressed)
    bench.active()
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[CAR] = True
    pipeline = bench.node._channels[0].pipeline
    assert pipeline is not None
    pipeline.reserve_ids(7)
    pipeline.add_prompt(Prompt(mask=mask), 7)
    camera.ready().send_info()
    bench.ros.wait_until(lambda: known_width(bench) == WIDTH, "the depth's calibration")
    return bench, camera, heard


def known_width(bench: Harness) -> int:
    """Of the depth's calibration, as the node has it; 0 before it came."""
    topic = bench.node._channels[0].space._topic
    return 0 if topic is None or topic.camera_info is None else int(topic.camera_info.width)


@pytest.mark.parametrize("kind", ["metres", "millimetres", "compressed"])
def test_objects_are_in_metres_in_the_images_frame(start: Start, kind: str) -> None:
    bench, camera, objects = started(start, compressed=kind == "compressed")
    in_mm = (1000 * np.where(np.isfinite(metres()), metres(), 0)).astype(np.uint16)
    bench.send(100)
    if kind == "compressed":
        camera.send_png(100, in_mm)
    else:
        camera.send(100, metres() if kind == "metres" else in_mm)
    answer = bench.wait_for_answer(objects, 100)
    assert answer.header == header(100)
    (car,) = answer.objects
    assert car.track_id == 7 and car.valid and car.points > 300 and car.valid_depth > 0.95
    # Columns 33 to 72 and rows 65 to 94 at 2 m, with a focal length of 150 pixels.
    center = (52.5 - 79.5) / 150 * 2, (79.5 - 59.5) / 150 * 2, 2.0
    assert (car.center.x, car.center.y, car.center.z) == pytest.approx(center, abs=0.04)
    assert (car.size.x, car.size.y) == pytest.approx((0.52, 0.39), abs=0.06)
    assert car.size.z < 0.02
    assert (car.centroid.x, car.centroid.y) == pytest.approx(center[:2], abs=0.04)
    covariance = np.reshape(car.covariance, (3, 3))
    assert covariance[0, 0] > 0 and covariance[1, 1] > 0
    np.testing.assert_allclose(covariance, covariance.T)


def test_depth_need_not_have_the_very_stamp(start: Start) -> None:
    bench, camera, objects = started(start)
    camera.send(80, metres(3.0))
    camera.send(101, metres(2.0))  # the nearest
    camera.send(140, metres(4.0))
    bench.send(100)
    (car,) = bench.wait_for_answer(objects, 100).objects
    assert car.center.z == pytest.approx(2.0, abs=0.02)


def test_without_depth_objects_stay_and_it_is_told(start: Start) -> None:
    bench, camera, objects = started(start)
    bench.set(depth_slop=0.05)
    camera.send(1)
    bench.send(1000)
    (car,) = bench.wait_for_answer(objects, 1000).objects
    assert car.track_id == 7 and not car.valid and (car.points, car.valid_depth) == (0, 0)
    assert np.isnan([car.center.x, car.size.y, car.centroid.z, *car.covariance]).all()
    bench.wait_for_value("frames without depth: no depth in time", "1")
    bench.wait_for_log("none within 0.05 s: the last on /depth was taken at 1000000 ns")


@pytest.mark.parametrize(
    ("trouble", "reason", "told"),
    [
        ("size", "depth of another size", "it is 80 x 60 pixels, the image 160 x 120"),
        ("frame", "depth of another frame", "it is in 'depth_optical', its image in 'camera_opt"),
        ("info", "depth camera_info of another size", "it is 320 x 240 pixels"),
        ("encoding", "depth: unknown encoding", "'mono8' is not one of 16UC1, 32FC1"),
    ],
)
def test_depth_that_does_not_fit_is_told_by_name(
    start: Start, trouble: str, reason: str, told: str
) -> None:
    bench, camera, objects = started(start)
    if trouble == "info":
        camera.send_info(320, 240)
        bench.ros.wait_until(lambda: known_width(bench) == 320, "the calibration")
    if trouble == "encoding":
        camera.depths.publish(
            image_message(np.zeros((HEIGHT, WIDTH), np.uint8), "mono8", header(100))
        )
    else:
        camera.send(
            100,
            metres()[::2, ::2].copy() if trouble == "size" else None,
            "depth_optical" if trouble == "frame" else "",
        )
    bench.send(100)
    (car,) = bench.wait_for_answer(objects, 100).objects
    assert not car.valid
    bench.wait_for_value(f"frames without depth: {reason}", "1")
    bench.wait_for_log(told)
    bench.ros.wait_until(
        lambda: any(
            status.level == DiagnosticStatus.WARN and reason in status.message
            for report in bench.reports
            for status in report.status
        ),
        "a warning in diagnostics",
    )


def points(message: PointCloud2) -> np.ndarray:
    """(H, W) records, by what the message says of itself."""
    kinds = {
        PointField.UINT8: "u1",
        PointField.UINT16: "<u2",
        PointField.UINT32: "<u4",
        PointField.FLOAT32: "<f4",
    }
    record = np.dtype(
        {
            "names": [f.name for f in message.fields],
            "formats": [kinds[f.datatype] for f in message.fields],
            "offsets": [f.offset for f in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    assert not message.is_bigendian and not message.is_dense
    return np.frombuffer(message.data, record).reshape(message.height, message.width)


def test_the_labelled_cloud_is_organised(start: Start) -> None:
    bench, camera, clouds = started(start, cloud=True)
    labels = bench.record("/vss/label_image", Image)
    bench.send(100)
    camera.send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    found = points(cloud)
    assert found.shape == (HEIGHT, WIDTH)
    assert np.isnan(found["z"][: HEIGHT // 2]).all()
    assert np.isfinite(found["z"][HEIGHT // 2 :]).all()
    car = found[CAR]
    assert np.allclose(car["z"], 2) and (car["instance"] == 7).mean() > 0.8
    assert found["x"][80, 100] == pytest.approx((100 - 79.5) / 150 * 6)
    colour = int(found["rgb"].copy().view("<u4")[80, 50])
    assert (colour >> 16) > 150 and (colour >> 8 & 255) < 60
    if labels and labels[-1].header == cloud.header:
        ids = np.frombuffer(labels[-1].data, np.uint8).reshape(HEIGHT, WIDTH)
        np.testing.assert_array_equal(found["label"], ids)
    assert ((found["confidence"] >= 0) & (found["confidence"] <= 1)).all()


def test_autowares_layout(start: Start) -> None:
    bench, camera, clouds = started(start, cloud=True, cloud_layout="xyzcpe")
    bench.send(100)
    camera.send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    assert cloud.point_step == 24
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, PointField.FLOAT32, 1),
        ("y", 4, PointField.FLOAT32, 1),
        ("z", 8, PointField.FLOAT32, 1),
        ("class_id", 12, PointField.UINT8, 1),
        ("probability", 16, PointField.FLOAT32, 1),
        ("entropy", 20, PointField.FLOAT32, 1),
    ]
    found = points(cloud)
    assert ((found["probability"] >= 0) & (found["probability"] <= 1)).all()
    assert (found["entropy"] >= 0).all() and found["entropy"].max() > 0.01
    assert found["entropy"].max() <= np.log(11) + 1e-4


def test_a_cloud_of_the_labels_size(start: Start) -> None:
    """Nav2's layer pairs the n-th point with the n-th pixel."""
    bench, camera, clouds = started(start, cloud=True, cloud_size="labels", output_width=80)
    labels = bench.record("/vss/label_image", Image)
    bench.ros.wait_until(
        lambda: any(
            p.topic_name == "/vss/label_image" and p.get_subscription_count()
            for p in bench.node.publishers
        ),
        "a subscriber of the labels",
    )
    bench.send(100)
    camera.send(100)
    cloud = bench.wait_for_answer(clouds, 100)
    image = bench.wait_for_answer(labels, 100)
    assert (cloud.width, cloud.height) == (image.width, image.height) == (80, 60)
    ids = np.frombuffer(image.data, np.uint8).reshape(60, 80)
    np.testing.assert_array_equal(points(cloud)["label"], ids)


def test_nobody_listens_and_nothing_is_subscribed(start: Start) -> None:
    bench = start(discovery="off")
    camera = DepthCamera(bench)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    bench.send(100)
    bench.wait_for_answer(labels, 100)
    later = time.monotonic() + 2 * WATCH_PERIOD + 0.2
    bench.ros.wait_until(lambda: time.monotonic() > later, "the node to look around")
    assert camera.depths.get_subscription_count() == 0
    assert "3-D p50 (ms)" not in bench.diagnostics()
    listener = bench.ears.create_subscription(Object3DArray, "/vss/objects_3d", lambda m: None, 10)
    camera.ready()
    bench.ears.destroy_subscription(listener)
    bench.ros.wait_until(lambda: camera.depths.get_subscription_count() == 0, "the node to leave")


class KnownFrame:
    """Stands for tf2, which the wheels lack: a frame 1 m below the camera's, turned by 90 degrees
    about its line of sight."""

    def between(self, target: str, source: str, stamp: Time, patience: float) -> np.ndarray:
        assert (target, source) == ("map", "camera_optical")
        if stamp.sec:
            raise NoTransformError("map is not known at that time")
        half = np.sqrt(0.5)
        return matrix_of(
            Transform(
                translation=Vector3(x=0.0, y=-1.0, z=0.0),
                rotation=Quaternion(x=0.0, y=0.0, z=2 * half, w=2 * half),  # not of unit length
            )
        )

    def destroy(self) -> None:
        pass


def test_points_are_brought_to_another_frame(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "listen_to_frames", lambda node: KnownFrame())
    bench, camera, objects = started(start, target_frame="map")
    bench.send(100)
    camera.send(100)
    bench.ros.wait_until(lambda: objects, "objects")
    assert objects[-1].header.frame_id == "map" and objects[-1].header.stamp == header(100).stamp
    (car,) = objects[-1].objects
    x, y = (52.5 - 79.5) / 150 * 2, (79.5 - 59.5) / 150 * 2
    assert (car.center.x, car.center.y, car.center.z) == pytest.approx((-y, x - 1, 2.0), abs=0.04)
    assert (car.size.x, car.size.y) == pytest.approx((0.39, 0.52), abs=0.06)

    bench.send(1100)
    camera.send(1100)
    (car,) = bench.wait_for_answer(objects, 1100).objects  # in the camera's frame
    assert not car.valid
    bench.wait_for_value("frames without depth: no transform", "1")
    bench.wait_for_log("to map: map is not known at that time")


@pytest.mark.skipif(frames.Buffer is not None, reason="tf2_ros is installed")
def test_without_tf2_objects_stay_in_the_cameras_frame(start: Start) -> None:
    bench, camera, objects = started(start, target_frame="map")
    bench.wait_for_log("target_frame: map needs tf2_ros, which is not installed")
    bench.send(100)
    camera.send(100)
    (car,) = bench.wait_for_answer(objects, 100).objects
    assert car.valid and car.center.z == pytest.approx(2.0, abs=0.02)


def test_a_transform_that_is_none() -> None:
    for broken in (
        Transform(rotation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)),
        Transform(translation=Vector3(x=np.nan, y=0.0, z=0.0)),
    ):
        with pytest.raises(NoTransformError, match="none of a rotation"):
            matrix_of(broken)
