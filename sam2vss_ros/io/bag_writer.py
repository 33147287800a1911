"""Bags of camera images and their labels, written without ROS: what `sam2vss bag make` does."""

from __future__ import annotations

import dataclasses
import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from tqdm import tqdm

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.bag_scan import add_checksums
from sam2vss_ros.io.calibration import Calibration
from sam2vss_ros.io.outputs import UNFINISHED, check_new_bag
from sam2vss_ros.io.readers import BrokenFrame, LabelledStream
from sam2vss_ros.io.ros_images import RgbImage
from sam2vss_ros.semantics.catalog import ClassCatalog

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
BAG_VERSION = 8
"""The newest form of rosbag2's metadata that Humble can read; 9 is for Jazzy and later."""

CAMERA = "/camera"
FIRST_STAMP_NS = 1_000_000_000
"""ROS takes a stamp of 0 for none."""

DEFINITIONS = {
    "sam2vss_ros/msg/ClassCatalogEntry": (
        "uint16 id\nstring name\nuint8 r\nuint8 g\nuint8 b\nbool thing\n"
    ),
    "sam2vss_ros/msg/ClassCatalog": (
        "std_msgs/Header header\nstring name\nuint16 unlabelled_id\n"
        "uint32 version\n"
        "sam2vss_ros/ClassCatalogEntry[] entries\n"
    ),
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
}
"""The messages that no bag library knows: our own, and those of vision_msgs."""

UNDEFINED = "# The recording does not define this type.\n"
NO_HASH = f"RIHS01_{0:064}"
"""What is written where nothing tells how the messages of a topic are made."""

FOREVER = QosTime(9_223_372_036, 854_775_807)


def offered_qos(depth: int, latched: bool = False) -> Qos:
    """Reliable QoS, as recorded of a publisher; latched: a late subscriber gets the last ones."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=FOREVER,
        lifespan=FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=FOREVER,
        avoid_ros_namespace_conventions=False,
    )


STREAM, LATCHED = offered_qos(10), offered_qos(1, latched=True)


class BagWriter:
    """Writes messages into a new bag, see `new_bag`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[tuple[str, str], Connection] = {}

    def write(self, topic: str, message: Any, time_ns: int, qos: Qos = STREAM) -> None:
        """Add a message, of a type of `types()`, as recorded at `time_ns`."""
        key = topic, message.__msgtype__
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(
                *key, typestore=types(), offered_qos_profiles=[qos]
            )
        data = types().serialize_cdr(message, message.__msgtype__)
        self._writer.write(self._connections[key], time_ns, data)

    def add(self, connection: Connection) -> None:
        """Prepare for messages of another bag's connection."""
        key = connection.topic, connection.msgtype
        if key in self._connections:
            return
        definition, digest = _definition(connection)
        ext = connection.ext
        assert isinstance(ext, ConnectionExtRosbag2)
        self._connections[key] = self._writer.add_connection(
            *key,
            msgdef=definition,
            rihs01=digest,
            serialization_format=ext.serialization_format,
            offered_qos_profiles=ext.offered_qos_profiles,
        )

    def copy(self, connection: Connection, time_ns: int, data: bytes) -> None:
        """Add a message of such a connection as it is."""
        own = self._connections[connection.topic, connection.msgtype]
        self._writer.write(own, time_ns, data)


@contextmanager
def new_bag(path: Path, storage: str, packed: bool = False) -> Iterator[BagWriter]:
    """Make a bag; it is there once it is complete, or not at all.

    storage: a key of STORAGES. packed: with chunks of an mcap compressed. Raises InputError for a
    path that exists or cannot be written.
    """
    path = path.expanduser().absolute()
    check_new_bag("out", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as stage:
            bag = Path(stage) / path.name
            writer = Writer(bag, version=BAG_VERSION, storage_plugin=STORAGES[storage])
            if packed:
                writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with writer:
                yield BagWriter(writer)
            if storage == "mcap":
                add_checksums(bag / f"{bag.name}.mcap")
            bag.rename(path)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be written: {reason}") from error


def make_bag(
    streams: Sequence[LabelledStream],
    out: Path,
    calibrate: Callable[[int, int], Calibration],
    catalog: ClassCatalog | None = None,
    storage: str = "mcap",
    compressed: str = "",
    frame_id: str = "camera_optical_frame",
) -> tuple[int, int]:
    """Write labelled frames as what a camera and a perfect labeller would have published.

    Topics, in `/camera`: `image_raw` (rgb8; where `compressed` is jpeg or png:
    `image_raw/compressed`), `camera_info` from `calibrate(width, height)`, `labels` (mono8, or
    mono16) and, latched, what the ids of `catalog` mean: `label_info` for vision_msgs,
    `class_catalog` in our own words. Messages of a frame have one stamp, FIRST_STAMP_NS after the
    frame's; they are recorded at this time. Returns how many frames there are, and how many of
    them have labels.

    Raises InputError for an `out` that exists or cannot be written and for a broken frame.
    """
    frames = labelled = 0
    items = itertools.chain.from_iterable(stream.read() for stream in streams)
    total = sum(stream.count for stream in streams)
    with new_bag(out, storage) as bag:
        for item in tqdm(items, total=total or None, unit="frame", desc=out.name):
            if isinstance(item, BrokenFrame):
                raise InputError(item.reason)
            image, stamp = item.frame.image, item.frame.stamp_ns + FIRST_STAMP_NS
            head = header(stamp, frame_id)
            if catalog is not None and frames == 0:
                write_classes(bag, CAMERA, catalog, catalog.void_id, stamp)
            info = calibrate(image.shape[1], image.shape[0])
            bag.write(f"{CAMERA}/camera_info", camera_info_message(info, head), stamp)
            if compressed:
                message = compressed_message(image, compressed, head)
                bag.write(f"{CAMERA}/image_raw/compressed", message, stamp)
            else:
                bag.write(f"{CAMERA}/image_raw", image_message(image, "rgb8", head), stamp)
            if item.labels is not None:
                bag.write(f"{CAMERA}/labels", label_message(item.labels, head), stamp)
                labelled += 1
            frames += 1
    return frames, labelled


def write_classes(
    bag: BagWriter,
    namespace: str,
    catalog: ClassCatalog,
    unlabelled: int,
    time_ns: int,
    threshold: float = 0.0,
) -> None:
    """Write what the ids of label images mean, as `class_catalog` and `label_info`, latched."""
    make, head = types().types, header(time_ns, "")
    entry, vision_class = (
        make["sam2vss_ros/msg/ClassCatalogEntry"],
        make["vision_msgs/msg/VisionClass"],
    )
    own = make["sam2vss_ros/msg/ClassCatalog"](
        header=head,
        name=catalog.name,
        unlabelled_id=unlabelled,
        version=catalog.version,
        entries=[entry(c.id, c.name, *c.color, c.thing) for c in catalog.classes],
    )
    info = make["vision_msgs/msg/LabelInfo"](
        header=head,
        class_map=[vision_class(c.id, c.name) for c in catalog.classes],
        threshold=threshold,
    )
    bag.write(f"{namespace}/class_catalog", own, time_ns, LATCHED)
    bag.write(f"{namespace}/label_info", info, time_ns, LATCHED)


def header(stamp_ns: int, frame_id: str) -> Any:
    """A std_msgs/Header."""
    stamp = types().types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return types().types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image_message(pixels: npt.NDArray[Any], encoding: str, head: Any) -> Any:
    """A sensor_msgs/Image of (H, W) or (H, W, 3) pixels, little-endian, rows without padding."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return types().types["sensor_msgs/msg/Image"](
        header=head,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // len(pixels),
        data=pixels.reshape(-1).view(np.uint8),
    )


def label_message(ids: npt.NDArray[np.integer], head: Any) -> Any:
    """A sensor_msgs/Image of (H, W) class ids: mono8 of 8-bit ids, else mono16."""
    if ids.dtype == np.uint8:
        return image_message(ids, "mono8", head)
    return image_message(ids.astype(np.uint16), "mono16", head)


def compressed_message(image: RgbImage, kind: str, head: Any) -> Any:
    """A sensor_msgs/CompressedImage as image_transport makes one, of an (H, W, 3) RGB image."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == "jpeg" else []
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return types().types["sensor_msgs/msg/CompressedImage"](
        header=head,
        format=f"rgb8; {kind} compressed bgr8",
        data=cv2.imencode(f".{kind}", bgr, quality)[1].reshape(-1),
    )


def camera_info_message(calibration: Calibration, head: Any) -> Any:
    """A sensor_msgs/CameraInfo of a whole image."""
    make = types().types
    fields = {
        name: np.array(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(calibration).items()
    }
    whole = make["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return make["sensor_msgs/msg/CameraInfo"](
        header=head, binning_x=0, binning_y=0, roi=whole, **fields
    )


@lru_cache(maxsize=1)
def types() -> Typestore:
    """All message types that are written: those of ROS 2, and DEFINITIONS."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


def _definition(connection: Connection) -> tuple[str, str]:
    """Definition and hash of a connection's type; older bags lack the hash, or even both."""
    definition, name = connection.msgdef, connection.msgtype
    text = definition.data or UNDEFINED
    if definition.format is MessageDefinitionFormat.NONE and name in types().fielddefs:
        return types().generate_msgdef(name, ros_version=2)[0], types().hash_rihs01(name)
    if connection.digest and definition.data:
        return text, connection.digest
    if definition.format is MessageDefinitionFormat.IDL:
        return text, NO_HASH
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(text, name))
        return text, store.hash_rihs01(name)
    except (TypesysError, KeyError):
        return text, NO_HASH
