"""Between the core's types and the package's messages."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from sam2vss_ros.errors import ImageError, one_line
from sam2vss_ros.io.ros_images import pixels_of
from sam2vss_ros.msg import ClassCatalog as ClassCatalogMessage
from sam2vss_ros.msg import ClassCatalogEntry, TrackedObjectArray
from sam2vss_ros.msg import TrackedObject as TrackedObjectMessage
from sam2vss_ros.ros.masks import encode_mask
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.srv import AddPrompt
from sam2vss_ros.types import Prompt, SemanticFrame, TrackedObject


def objects_message(semantic: SemanticFrame, header: Header) -> TrackedObjectArray:
    """All objects in memory after a frame."""
    height, width = semantic.label_image.shape
    return TrackedObjectArray(
        header=header,
        height=height,
        width=width,
        objects=[object_message(tracked) for tracked in semantic.objects],
    )


def object_message(tracked: TrackedObject) -> TrackedObjectMessage:
    """One object; its mask is packed to one bit per pixel."""
    x, y, width, height = tracked.box
    probabilities = np.asarray(tracked.class_probabilities, np.float32)
    return TrackedObjectMessage(
        track_id=tracked.track_id,
        state=int(tracked.state),
        class_id=tracked.class_id,
        class_name=tracked.class_name,
        class_score=float(tracked.class_score),
        class_probabilities=array.array("f", probabilities.tobytes()),
        predicted_iou=float(tracked.predicted_iou),
        visibility=float(tracked.visibility),
        age=tracked.age,
        frames_since_seen=tracked.frames_since_seen,
        box=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height),
        area=tracked.area,
        centroid_x=float(tracked.centroid[0]),
        centroid_y=float(tracked.centroid[1]),
        mask=encode_mask(tracked.mask),
    )


def catalog_message(
    catalog: ClassCatalog, unlabelled_id: int, header: Header
) -> ClassCatalogMessage:
    """What the values of the label image mean."""
    return ClassCatalogMessage(
        header=header,
        name=catalog.name,
        unlabelled_id=unlabelled_id,
        version=catalog.version,
        entries=[
            ClassCatalogEntry(
                id=c.id, name=c.name, r=c.color[0], g=c.color[1], b=c.color[2], thing=c.thing
            )
            for c in catalog.classes
        ],
    )


def prompt_from(request: AddPrompt.Request, catalog: ClassCatalog) -> Prompt:
    """The prompt of a service request. Raises ValueError saying what is wrong with it."""
    class_id = None
    if request.class_name:
        ids = {c.name: c.id for c in catalog.classes}
        if request.class_name not in ids:
            wanted, known = one_line(repr(request.class_name)), one_line(", ".join(ids))
            raise ValueError(f"no class {wanted}; there are {known}")
        class_id = ids[request.class_name]
    coordinates = np.array(request.points, np.float32)
    if len(coordinates) % 2:
        raise ValueError(f"points are pairs of x and y, not {len(coordinates)} numbers")
    if len(request.box) not in (0, 4):
        raise ValueError(f"a box is x0, y0, x1, y1, not {len(request.box)} numbers")
    if not (np.isfinite(coordinates).all() and np.isfinite(request.box).all()):
        raise ValueError("coordinates are finite numbers")
    x0, y0, x1, y1 = (float(v) for v in request.box) if request.box else (0.0,) * 4
    return Prompt(
        points=coordinates.reshape(-1, 2) if len(coordinates) else None,
        point_labels=np.array(request.point_labels, np.int32) if len(coordinates) else None,
        box=(x0, y0, x1, y1) if request.box else None,
        mask=mask_from(request.mask),
        class_id=class_id,
    )


def mask_from(message: Image) -> np.ndarray | None:
    """The (height, width) bool array of a mono8 mask; None for the empty message.

    Raises ImageError, a ValueError, for a broken image and any other encoding.
    """
    if not message.data and not message.encoding:
        return None
    if message.encoding != "mono8":
        raise ImageError("unknown encoding", f"a mask is mono8, not {message.encoding!r}")
    return pixels_of(message) > 0
