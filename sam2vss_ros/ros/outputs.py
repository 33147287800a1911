"""The node's publishers: one frame's answer goes to all of them under one header."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sam2vss_ros.config import MOST_PIXELS, MOST_SIDE
from sam2vss_ros.io.overlay import draw_overlay
from sam2vss_ros.io.ros_images import RgbImage
from sam2vss_ros.msg import ClassCatalog as ClassCatalogMessage
from sam2vss_ros.msg import TrackedObjectArray
from sam2vss_ros.ros.conversions import image_message, scaled_camera_info
from sam2vss_ros.ros.detections import Detection2DArray, detections_message
from sam2vss_ros.ros.messages import catalog_message, objects_message
from sam2vss_ros.ros.qos import LATCHED, OUTPUT
from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog
from sam2vss_ros.types import SemanticFrame

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # not installed: ~/class_catalog says the same and more
    LabelInfo = None

MONO = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}


@dataclass(frozen=True)
class Answer:
    """A processed image: what came in, what came out, and the size the label image is to have."""

    header: Header
    image: RgbImage
    semantic: SemanticFrame
    camera_info: CameraInfo | None
    size: tuple[int, int]  # width, height


class Outputs:
    """Creates the publishers of `node` and feeds those that have subscribers.

    prefix: stands before the topics of a named camera, as in `~/front/label_image`. masks: the ids
    of the classes of each mask, by name.
    """

    def __init__(
        self,
        node: LifecycleNode,
        prefix: str,
        catalog: ClassCatalog,
        unlabelled_id: int,
        masks: Mapping[str, Sequence[int]],
    ) -> None:
        self._node = node
        self._catalog = catalog
        self._unlabelled_id = unlabelled_id
        self.label_encoding = MONO[np.dtype(catalog.label_dtype(unlabelled_id))]

        def create(kind: type, name: str, qos: QoSProfile) -> Publisher:
            return node.create_publisher(kind, f"~/{prefix}{name}", qos)

        self._makers: dict[Publisher, Callable[[Answer], Any]] = {
            create(Image, "label_image", OUTPUT): label_image,
            create(Image, "confidence_image", OUTPUT): confidence_image,
            create(Image, "instance_image", OUTPUT): instance_image,
            create(TrackedObjectArray, "objects", OUTPUT): objects,
            create(Image, "overlay", OUTPUT): self._overlay,
            create(CameraInfo, "camera_info", OUTPUT): camera_info,
        }
        if masks:
            self._makers[create(CameraInfo, "mask/camera_info", OUTPUT)] = camera_info
        for name, ids in masks.items():
            self._makers[create(Image, f"mask/{name}", OUTPUT)] = mask_image(ids)
        if Detection2DArray is not None:
            self._makers[create(Detection2DArray, "detections", OUTPUT)] = detections
        self._class_catalog = create(ClassCatalogMessage, "class_catalog", LATCHED)
        self._label_info = create(LabelInfo, "label_info", LATCHED) if LabelInfo else None

    @property
    def catalog(self) -> ClassCatalog:
        """What the labels mean, as it was last said."""
        return self._catalog

    def rename(self, catalog: ClassCatalog, min_class_score: float) -> None:
        """The labels mean something else from now on; subscribers are told so."""
        self._catalog = catalog
        self.publish_catalog()
        self.publish_label_info(min_class_score)

    def publish(self, answer: Answer) -> None:
        """Send what has a subscriber."""
        for publisher, make in self._makers.items():
            if publisher.get_subscription_count():
                message = make(answer)
                if message is not None:
                    publisher.publish(message)

    def publish_catalog(self) -> None:
        """Send what the labels mean; late subscribers get it too."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._class_catalog.publish(catalog_message(self._catalog, self._unlabelled_id, header))

    def publish_label_info(self, min_class_score: float) -> None:
        """The same in vision_msgs' words, where that package is installed."""
        if self._label_info is None:
            return
        header = Header(stamp=self._node.get_clock().now().to_msg())
        classes = [VisionClass(class_id=c.id, class_name=c.name) for c in self._catalog.classes]
        self._label_info.publish(
            LabelInfo(header=header, class_map=classes, threshold=min_class_score)
        )

    def destroy(self) -> None:
        """End the publishers."""
        for publisher in (*self._makers, self._class_catalog, self._label_info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def _overlay(self, answer: Answer) -> Image:
        drawn = draw_overlay(answer.image, answer.semantic, self._catalog)
        return image_message(drawn, "rgb8", answer.header)


def label_image(answer: Answer) -> Image:
    return mono_image(answer.semantic.label_image, answer)


def confidence_image(answer: Answer) -> Image:
    return mono_image(answer.semantic.confidence_image, answer)


def instance_image(answer: Answer) -> Image:
    return mono_image(answer.semantic.instance_image, answer)


def mask_image(ids: Sequence[int]) -> Callable[[Answer], Image]:
    """What makes the mask of the classes with these ids: mono8, 255 where one of them is."""
    table = np.zeros(IMAGE_ID_LIMIT, np.uint8)
    table[list(ids)] = 255

    def make(answer: Answer) -> Image:
        return mono_image(table.take(answer.semantic.label_image), answer)

    return make


def detections(answer: Answer) -> Any:
    return detections_message(answer.semantic.objects, answer.header)


def objects(answer: Answer) -> TrackedObjectArray:
    return objects_message(answer.semantic, answer.header)


def camera_info(answer: Answer) -> CameraInfo | None:
    if answer.camera_info is None:
        return None
    return scaled_camera_info(answer.camera_info, *answer.size, answer.header)


def mono_image(pixels: npt.NDArray[Any], answer: Answer) -> Image:
    """The image in the size wanted; ids and confidences are never mixed by interpolation."""
    if pixels.shape != answer.size[::-1]:
        pixels = cv2.resize(pixels, answer.size, interpolation=cv2.INTER_NEAREST_EXACT)
    return image_message(pixels, MONO[pixels.dtype], answer.header)


def output_size(width: int, height: int, camera: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the label image; a 0 keeps the proportion of `camera`'s width, height.

    A side that follows from the other stays within MOST_SIDE, and the image within MOST_PIXELS.
    """
    if width == 0 and height == 0:
        return camera
    if width == 0:
        width = _side(height, camera[0] / camera[1])
    if height == 0:
        height = _side(width, camera[1] / camera[0])
    return width, height


def _side(other: int, proportion: float) -> int:
    return max(1, min(round(other * proportion), MOST_SIDE, MOST_PIXELS // other))
