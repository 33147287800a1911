"""What is made of a camera's depth: objects in space and labelled clouds, while anybody listens."""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Vector3
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2, PointField
from std_msgs.msg import Header

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.errors import ImageError, InputError, brief
from sam2vss_ros.geometry.camera import PinholeCamera
from sam2vss_ros.geometry.cloud import PixelLabels, labelled_cloud
from sam2vss_ros.geometry.depth import Depth
from sam2vss_ros.geometry.objects import Object3D, Transform, place_objects
from sam2vss_ros.io.ros_depth import compressed_depth_of, depth_of
from sam2vss_ros.msg import Object3D as Object3DMessage
from sam2vss_ros.msg import Object3DArray
from sam2vss_ros.ros.depth import DepthMessage, DepthTopic
from sam2vss_ros.ros.detections import UNKNOWN
from sam2vss_ros.ros.frames import Frames, NoTransformError, listen_to_frames
from sam2vss_ros.ros.outputs import Answer
from sam2vss_ros.ros.qos import OUTPUT

try:
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection3D,
        Detection3DArray,
        ObjectHypothesisWithPose,
    )
except ImportError:  # not installed: ~/objects_3d says the same and more
    Detection3DArray = None

FIELD_TYPES = {"u1": PointField.UINT8, "u2": PointField.UINT16, "u4": PointField.UINT32}
FIELD_TYPES |= {"f4": PointField.FLOAT32}


class NoDepthError(ValueError):
    """Depth that cannot be used. `reason` is short and the same for all of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class PairedDepth(NamedTuple):
    """The depth of an image and its calibration, None where there is none. reason: why not."""

    message: DepthMessage | None
    camera_info: CameraInfo | None
    reason: str


class Space:
    """The publishers of `node` that depth is needed for, and its subscription, which is there only
    while one of them has a subscriber.

    prefix: stands before the topics of a named camera. `follow` is to be called regularly, between
    `connect` and `disconnect`.
    """

    def __init__(self, node: LifecycleNode, prefix: str) -> None:
        self._node, self._prefix = node, prefix
        self._topic: DepthTopic | None = None
        self._frames: Frames | None = None  # where objects go to another frame than the image's
        create = node.create_publisher
        self._objects = create(Object3DArray, f"~/{prefix}objects_3d", OUTPUT)
        self._cloud = create(PointCloud2, f"~/{prefix}labelled_cloud", OUTPUT)
        self._detections = None
        if Detection3DArray is not None:
            self._detections = create(Detection3DArray, f"~/{prefix}detections_3d", OUTPUT)

    # From the node, in the executor's thread.

    def follow(self, config: NodeConfig, came: Callable[[], None]) -> None:
        """Subscribe while somebody listens, and follow the publishers of depth."""
        if not self.wanted:
            self.disconnect()
        elif self._topic is None:
            self._frames = self._open_frames(config)
            self._topic = DepthTopic(self._node, config, self._prefix, came)
        else:
            self._topic.follow()

    def disconnect(self) -> None:
        """End the subscriptions."""
        topic, self._topic = self._topic, None
        frames, self._frames = self._frames, None
        for subscription in (topic, frames):
            if subscription is not None:
                subscription.destroy()

    def destroy(self) -> None:
        """End the publishers."""
        for publisher in (self._objects, self._cloud, self._detections):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    # From the worker, in its thread.

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._wants_objects or bool(self._cloud.get_subscription_count())

    def wants_entropy(self, config: NodeConfig) -> bool:
        """Whether the entropy of every pixel is published."""
        return config.cloud_layout == "xyzcpe" and bool(self._cloud.get_subscription_count())

    def waits_for(self, stamp: int) -> bool:
        """Whether the depth of the image with this stamp in nanoseconds may still come."""
        topic = self._topic
        return topic is not None and not topic.settled(stamp)

    def take(self, stamp: int, config: NodeConfig) -> PairedDepth | None:
        """What depth says of the image with this stamp in nanoseconds; None where nobody listens.

        To be asked when the image is taken up: what it needs may be gone when it is answered.
        """
        topic = self._topic
        if topic is None:
            return None
        message = topic.nearest(stamp, config.depth_slop)
        reason = "" if message else f"none within {config.depth_slop:g} s: {topic.reason()}"
        return PairedDepth(message, topic.camera_info, reason)

    def publish(
        self, answer: Answer, paired: PairedDepth, config: NodeConfig, most_pixels: int
    ) -> None:
        """Send what has a subscriber. Objects are sent also where depth does not tell their place.

        Raises NoDepthError afterwards where an image has no depth that can be used.
        """
        trouble, depth, camera = None, None, None
        try:
            depth, camera = _read(paired, answer, config, most_pixels)
        except NoDepthError as error:
            trouble = error
        if self._wants_objects:
            header, transform, seen = answer.header, None, depth
            try:
                header, transform = self._target(answer, config)
            except NoTransformError as error:
                seen = None
                trouble = trouble or NoDepthError(
                    "no transform", f"to {brief(config.target_frame)}: {error}"
                )
            self._publish_objects(answer, header, seen, camera, transform)
        # Who has just begun to listen to it gets the next one, which has an entropy.
        has_all = config.cloud_layout != "xyzcpe" or answer.semantic.entropy_image is not None
        listened = has_all and self._cloud.get_subscription_count()
        if depth is not None and camera is not None and listened:
            try:
                cloud = cloud_message(answer, config, depth, camera)
            except InputError as error:
                raise NoDepthError("no cloud", str(error)) from error
            self._cloud.publish(cloud)
        if trouble is not None:
            raise trouble

    @property
    def _wants_objects(self) -> bool:
        publishers = (self._objects, self._detections)
        return any(p is not None and p.get_subscription_count() for p in publishers)

    def _open_frames(self, config: NodeConfig) -> Frames | None:
        if not config.target_frame:
            return None
        frames = listen_to_frames(self._node)
        if frames is None:
            self._node.get_logger().warning(
                f"target_frame: {brief(config.target_frame)} needs tf2_ros, which is not "
                "installed: objects stay in the frame of the image"
            )
        return frames

    def _target(self, answer: Answer, config: NodeConfig) -> tuple[Header, Transform | None]:
        """The header of the objects, and what brings their points there. Raises
        NoTransformError."""
        header, frames = answer.header, self._frames
        if frames is None or config.target_frame == header.frame_id:
            return header, None
        transform = frames.between(
            config.target_frame, header.frame_id, header.stamp, config.depth_slop
        )
        return Header(stamp=header.stamp, frame_id=config.target_frame), transform

    def _publish_objects(
        self,
        answer: Answer,
        header: Header,
        depth: Depth | None,
        camera: PinholeCamera | None,
        transform: Transform | None,
    ) -> None:
        tracked = answer.semantic.objects
        if depth is None or camera is None:
            placed = [Object3D(one, None, 0, 0.0) for one in tracked]
        else:
            placed = place_objects(tracked, depth, camera, transform)
        if self._objects.get_subscription_count():
            messages = [object_message(seen) for seen in placed]
            self._objects.publish(Object3DArray(header=header, objects=messages))
        if self._detections is not None and self._detections.get_subscription_count():
            detections = [detection_message(seen, header) for seen in placed]
            message = Detection3DArray(header=header, detections=detections)
            self._detections.publish(message)


def _read(
    paired: PairedDepth, answer: Answer, config: NodeConfig, most_pixels: int
) -> tuple[Depth, PinholeCamera]:
    """The depth of the answer's image, and the camera that took it. Raises NoDepthError."""
    message = paired.message
    if message is None:
        raise NoDepthError("no depth in time", paired.reason)
    theirs, ours = message.header.frame_id, answer.header.frame_id
    if theirs != ours:
        raise NoDepthError(
            "depth of another frame",
            f"it is in {brief(repr(theirs))}, its image in {brief(repr(ours))}: register it to the "
            "image (depth_image_proc/register)",
        )
    height, width = answer.image.shape[:2]
    depth = _decoded(message, config.depth_scale, most_pixels)
    _check_size("depth", depth.shape[::-1], (width, height))
    info = paired.camera_info or answer.camera_info
    if info is None:
        raise NoDepthError("no camera_info", "none has come on depth/camera_info or camera_info")
    if info.width and info.height:
        _check_size("depth camera_info", (info.width, info.height), (width, height))
    try:
        return depth, PinholeCamera.of(info.k)
    except InputError as error:
        raise NoDepthError("no calibration", str(error)) from error


def _decoded(message: DepthMessage, scale: float, most_pixels: int) -> Depth:
    decode = compressed_depth_of if isinstance(message, CompressedImage) else depth_of
    try:
        return decode(message, scale, most_pixels)
    except ImageError as error:
        raise NoDepthError(f"depth: {error.reason}", str(error)) from error


def _check_size(what: str, size: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if size != wanted:
        raise NoDepthError(
            f"{what} of another size",
            f"it is {size[0]} x {size[1]} pixels, the image {wanted[0]} x {wanted[1]}: register "
            "depth to the image (depth_image_proc/register)",
        )


def cloud_message(
    answer: Answer, config: NodeConfig, depth: Depth, camera: PinholeCamera
) -> PointCloud2:
    """The organised cloud of an answer. Raises InputError as `labelled_cloud`."""
    semantic = answer.semantic
    labels = PixelLabels(
        semantic.label_image,
        semantic.confidence_image,
        semantic.instance_image,
        semantic.entropy_image,
    )
    size = answer.size if config.cloud_size == "labels" else None
    data = array.array("B")
    cloud = labelled_cloud(depth, camera, answer.image, labels, config.cloud_layout, size, data)
    fields: Mapping[str, Any] = cloud.dtype.fields or {}
    message = PointCloud2(
        header=answer.header,
        height=cloud.shape[0],
        width=cloud.shape[1],
        fields=[
            PointField(
                name=name,
                offset=offset,
                datatype=FIELD_TYPES[kind.str[1:]],
                count=1,
            )
            for name, (kind, offset, *_) in fields.items()
        ],
        is_bigendian=False,
        point_step=cloud.itemsize,
        row_step=cloud.itemsize * cloud.shape[1],
        is_dense=False,
    )
    message.data = data
    return message


def object_message(seen: Object3D) -> Object3DMessage:
    """One object; NaN where it has no place."""
    tracked, place = seen.tracked, seen.placement
    nowhere = np.full(3, np.nan)
    center, size, centroid = (
        (nowhere,) * 3 if place is None else (place.center, place.size, place.centroid)
    )
    covariance = np.full(9, np.nan) if place is None else place.covariance.ravel()
    return Object3DMessage(
        track_id=tracked.track_id,
        state=int(tracked.state),
        class_id=tracked.class_id,
        class_name=tracked.class_name,
        class_score=float(tracked.class_score),
        valid=place is not None,
        points=seen.points,
        valid_depth=float(seen.valid_depth),
        center=_point(center),
        size=Vector3(**_xyz(size)),
        centroid=_point(centroid),
        covariance=covariance,
    )


def detection_message(seen: Object3D, header: Header) -> Any:
    """The same in vision_msgs' words: no place is a box without size, its covariance unknown."""
    tracked, place = seen.tracked, seen.placement
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = tracked.class_name
    result.hypothesis.score = float(tracked.class_score)
    covariance = np.zeros((6, 6))
    box = BoundingBox3D()
    if place is None:
        covariance[0, 0] = UNKNOWN
    else:
        covariance[:3, :3] = place.covariance
        result.pose.pose.position = _point(place.centroid)
        box.center.position = _point(place.center)
        box.size = Vector3(**_xyz(place.size))
    result.pose.covariance = covariance.ravel()
    return Detection3D(header=header, results=[result], bbox=box, id=str(tracked.track_id))


def _point(metres: npt.NDArray[np.float64]) -> Point:
    return Point(**_xyz(metres))


def _xyz(metres: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip("xyz", metres.tolist(), strict=True))
