"""Camera images and label images from bags, without ROS.

A bag is a rosbag2 recording (mcap or sqlite3; its folder or its bare file, see `bag_files`) or a
ROS 1 `.bag`. Its messages come in the order in which they were recorded, as a player sends them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.bag_files import BagFiles, unpacked_message
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.image_files import ImageHeader, read_header, read_label_pixels
from sam2vss_ros.io.image_folders import files_by_number
from sam2vss_ros.io.label_files import LabelReader, LabelRules, fitting_turn, turned_back
from sam2vss_ros.io.label_pixels import LabelDecoder, UnfitLabelsError, settle
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, LabelledStream
from sam2vss_ros.io.ros_images import RgbImage, compressed_to_rgb, image_to_rgb, label_pixels
from sam2vss_ros.io.stamps import STANDSTILL, CaptureTimes, stand_still
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

RAW_IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TO_RGB: dict[str, Callable[..., RgbImage]] = {
    RAW_IMAGE: image_to_rgb,
    COMPRESSED_IMAGE: compressed_to_rgb,
}
LABEL_WINDOW_NS = 2_000_000_000
"""How long before or after its image a label image may have been recorded. The label images of
twice this time are the most that is held in memory."""

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Topic:
    """The type of a topic's messages, as sensor_msgs/msg/Image, and how many there are."""

    type: str
    count: int


class Bag:
    """The topics of a bag and their messages; `topics` is sorted by name.

    Raises InputError where there is nothing, or what is there is no bag or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        with self._refusing():
            self._files = BagFiles(self.path)
        self.is_ros1 = self._files.is_ros1
        self._merged: dict[tuple[str, str], Connection] = {}
        for storage in self._files.storages:
            for connection in storage.connections:
                key = connection.topic, connection.msgtype
                digest = connection.digest or self._files.hashes.get(key, "")
                connection = connection._replace(digest=digest)
                self._merged[key] = _merge(self._merged.get(key), connection)
        self.topics: dict[str, Topic] = {}
        for topic, type_ in sorted(self._merged):
            count = self._merged[topic, type_].msgcount
            if topic in self.topics:
                type_, count = "several types", self.topics[topic].count + count
            self.topics[topic] = Topic(type_, count)

    @property
    def connections(self) -> list[Connection]:
        """One for each topic and type, with the QoS that all its publishers offered."""
        return list(self._merged.values())

    def messages(self, *topics: str) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording in ns and bytes of these topics' messages, all if none.

        Raises InputError where the bag is damaged.
        """
        wanted = topics or tuple(self.topics)
        with self._refusing():
            for storage in self._files.storages:
                for own, time, data in storage.messages(wanted):
                    connection = self._merged[own.topic, own.msgtype]
                    ext = connection.ext
                    if isinstance(ext, ConnectionExtRosbag2) and ext.serialization_format == "cdr":
                        data = unpacked_message(data)
                    yield connection, time, data

    def decode(self, connection: Connection, data: bytes) -> Any:
        """The image message that `data` stands for. Raises ImageError where it stands for none."""
        try:
            if self.is_ros1:
                return _types(Stores.ROS1_NOETIC).deserialize_ros1(data, connection.msgtype)
            return _types(Stores.ROS2_HUMBLE).deserialize_cdr(data, connection.msgtype)
        except SerdeError as error:
            raise ImageError("damaged message", str(error)) from error

    def image_topics(self) -> list[str]:
        """The topics with raw or compressed images, sorted."""
        return [name for name, topic in self.topics.items() if topic.type in TO_RGB]

    def check_topic(self, name: str, types: Collection[str]) -> None:
        """Raise InputError unless there is a topic of one of the types, with messages."""
        if name not in self.topics:
            raise InputError(f"{self.path} holds no topic {name}; it {self.contents()}")
        topic = self.topics[name]
        if topic.type not in types:
            wanted = " or ".join(types)
            raise InputError(f"{self.path}, topic {name}: its type is {topic.type}, not {wanted}")
        if topic.count == 0:
            raise InputError(f"{self.path}, topic {name}: it has no messages")

    def find_image_topic(self, wanted: str | None, besides: str | None = None) -> str:
        """The topic `wanted`, or the only one with images `besides` another.

        Raises InputError as `check_topic` does, and where there is no such topic or several.
        """
        if wanted is None:
            found = [name for name in self.image_topics() if name != besides]
            if not found:
                raise InputError(f"{self.path} holds no topic with images; it {self.contents()}")
            if len(found) > 1:
                raise InputError(
                    f"{self.path} holds several topics with images, choose one (--image-topic); "
                    f"it {self.contents()}"
                )
            wanted = found[0]
        self.check_topic(wanted, list(TO_RGB))
        return wanted

    def contents(self) -> str:
        """What the bag holds, in words."""
        topics = ", ".join(f"{name} ({topic.type})" for name, topic in self.topics.items())
        return f"holds {topics or 'nothing'}"

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.path} cannot be read as a bag: {error}") from error
        except Exception as error:
            # What a damaged file makes of the parser: struct.error, TypeError, apsw.Error, ...
            raise InputError(
                f"{self.path} cannot be read as a bag: {error or type(error).__name__} (`ros2 bag "
                "reindex` or `mcap recover` may mend a recording that was cut off)"
            ) from error


class FrameDecoder:
    """Makes frames of a topic's image messages, and refuses those that the live node skips.

    Where the camera did not stamp its images, they go by the time of their recording. most_pixels:
    of an image, the option `max_image_pixels`.
    """

    def __init__(self, bag: Bag, topic: str, most_pixels: int = MOST_PIXELS) -> None:
        self._most_pixels = most_pixels
        self._contrast = Contrast()
        self._times = CaptureTimes(stand_still(_first_stamps(bag, topic)))
        self._place = f"{bag.path}, topic {topic}"
        self._told = False

    def frame(self, message: Any, recorded_ns: int) -> Frame:
        """The next frame, with the stamp of the message's header.

        Raises ImageError for a broken image and for one with the stamp of the frame before.
        """
        image = TO_RGB[message.__msgtype__](message, self._most_pixels, self._contrast)
        time_ns = self._times.of(header_stamp_ns(message), recorded_ns)
        if self._times.unstamped and not self._told:
            self._told = True
            log.warning(
                "%s: the camera does not stamp its images, so that they go by the time of their "
                "recording and labels are joined to them in order",
                self._place,
            )
        # What lies in the bytes of a message is read-only; torch wants to be able to write.
        return Frame(image if image.flags.writeable else image.copy(), time_ns)


def open_bag(
    path: Path,
    image_topic: str | None = None,
    label_topic: str | None = None,
    labels: Path | None = None,
    rules: LabelRules | None = None,
) -> LabelledStream:
    """Open the images of a bag, with label images from another of its topics or from a folder.

    Images are raw or compressed; without `image_topic` the bag must have one topic with images
    besides `label_topic`. They come in the order of the bag, each with the stamp of its header. As
    in the live node, an image that is broken or has the stamp of the one before is left out: it is
    a BrokenFrame.

    label_topic: raw images in an encoding of LABEL_ENCODINGS, or compressed without loss (PNG). An
    image's labels are those with exactly its stamp, recorded at most LABEL_WINDOW_NS before or
    after it.
    labels: a folder of label images whose names end with a number: all with the stamp of their
    image in nanoseconds, or all with its index among the messages of the topic, from 0.
    rules: what ids and colours mean, what comes after the numbers of files, and to which pixels
    their labels belong: images stay as they are stored, whatever orientation a JPEG notes.

    Raises InputError for what is no bag or a damaged one, a missing, empty or unsuitable topic and
    a folder that cannot be joined; at the end of reading, where no image or no labels could be
    used.
    """
    bag = Bag(path)
    image_topic = bag.find_image_topic(image_topic, besides=label_topic)
    _check_encoding(bag, image_topic, lambda message: TO_RGB[message.__msgtype__](message))
    rules = rules or LabelRules()
    reader = LabelReader(rules)
    if label_topic is not None:
        bag.check_topic(label_topic, list(TO_RGB))
        LabelTopic(bag, label_topic, reader.decoder).check()
    count = bag.topics[image_topic].count
    files = {} if labels is None else files_by_number(labels, rules.label_suffix)
    reader.settle(files[number] for number in sorted(files))
    orientation = rules.orientation if files else "stored"
    if orientation == "auto":
        _check_orientation(bag, image_topic)
    source: LabelSource | None = None

    def read() -> Iterator[LabelledFrame | BrokenFrame]:
        nonlocal source
        if label_topic is not None:
            source = LabelTopic(bag, label_topic, reader.decoder)
        elif files:
            source = LabelFolder(files, max(files) < count, reader)
        yield from _read(bag, image_topic, source, orientation)

    def unmatched() -> int:
        return max(0, source.total - source.joined) if source else 0

    return LabelledStream(
        bag.path.name, count, read, unmatched, lambda: list(reader.decoder.notes.values())
    )


def header_stamp_ns(message: Any) -> int:
    """Nanoseconds of the stamp in a message's header."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


class LabelSource(Protocol):
    """Label images: `total` of them, of which `joined` found their image, by a `rule`."""

    rule: str
    total: int
    joined: int

    def find(self, index: int, stamp_ns: int, time_ns: int) -> Labels | None:
        """The labels of image `index`, with this stamp, recorded at `time_ns`, if it has any.

        Raises ImageError or InputError for labels that cannot be read.
        """


class LabelTopic:
    """Label images of a topic of the bag, by their stamps."""

    rule = "their stamps must be equal to the nanosecond"

    def __init__(self, bag: Bag, topic: str, decoder: LabelDecoder) -> None:
        self.total, self.joined = bag.topics[topic].count, 0
        self._bag, self._topic, self._decoder = bag, topic, decoder
        self._name = f"{bag.path}, topic {topic}"
        self._coming = bag.messages(topic)
        self._newest = 0
        self._held: dict[int, tuple[int, Any]] = {}  # time and message by stamp, oldest first

    def find(self, index: int, stamp_ns: int, time_ns: int) -> Labels | None:
        first, last = time_ns - LABEL_WINDOW_NS, time_ns + LABEL_WINDOW_NS
        while stamp_ns not in self._held and self._newest <= last:
            if (coming := next(self._coming, None)) is None:
                break
            connection, self._newest, data = coming
            message = self._bag.decode(connection, data)
            self._held[header_stamp_ns(message)] = self._newest, message
        while self._held:
            oldest, (time, _) = next(iter(self._held.items()))
            if time >= first:
                break
            del self._held[oldest]
        time, message = self._held.get(stamp_ns, (last + 1, None))
        if time > last:
            return None
        del self._held[stamp_ns]
        self.joined += 1
        return self._ids(message)

    def check(self) -> None:
        """Raise InputError where the first label image says that all are of no use."""
        _check_encoding(self._bag, self._topic, self._pixels)
        settle(
            lambda c=connection, d=data: self._ids(self._bag.decode(c, d))  # type: ignore[misc]
            for connection, _, data in self._bag.messages(self._topic)
        )

    def _ids(self, message: Any) -> Labels:
        pixels, palette = self._pixels(message)
        return self._decoder.decode(pixels, self._name, palette)

    def _pixels(self, message: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
        """The pixels and the palette of a label image, raw or compressed, for the decoder."""
        if message.__msgtype__ == RAW_IMAGE:
            return label_pixels(message), None
        if "compressedDepth" in message.format:
            raise UnfitLabelsError(f"{self._name} is depth: record labels raw or as PNG")
        return read_label_pixels(BytesIO(message.data), self._name)


class LabelFolder:
    """Label images in files, by the stamp or the index of their image."""

    rule = "their names must end with its stamp in nanoseconds, or with its index from 0"

    def __init__(self, files: Mapping[int, Path], by_index: bool, reader: LabelReader) -> None:
        self.total, self.joined = len(files), 0
        self._files, self._by_index, self._reader = files, by_index, reader

    def find(self, index: int, stamp_ns: int, time_ns: int) -> Labels | None:
        file = self._files.get(index if self._by_index else stamp_ns)
        if file is None:
            return None
        self.joined += 1
        return self._reader.read(file)


def _read(
    bag: Bag, topic: str, source: LabelSource | None, orientation: str
) -> Iterator[LabelledFrame | BrokenFrame]:
    decoder, broken, frames = FrameDecoder(bag, topic), "", 0
    for index, (connection, time, data) in enumerate(bag.messages(topic)):
        name, frame = f"{index:06d}", None
        try:
            message = bag.decode(connection, data)
            frame = decoder.frame(message, time)
            frames += 1
            labels = source.find(index, header_stamp_ns(message), time) if source else None
            if labels is not None and orientation != "stored":
                labels = turned_back(labels, _header(message), orientation, f"image {index}")
            if labels is not None and labels.shape != frame.image.shape[:2]:
                (h, w), (height, width) = labels.shape, frame.image.shape[:2]
                raise ImageError("labels of another size", f"{w}x{h}, image {width}x{height}")
        except (ImageError, InputError) as error:
            broken = broken or str(error)
            yield BrokenFrame(name, str(error), frame)
        else:
            yield LabelledFrame(frame, labels, name)
    if frames == 0:
        raise InputError(f"{bag.path}, topic {topic}: no image can be used: {broken}")
    if source and source.joined == 0:
        raise InputError(
            f"{bag.path}, topic {topic}: none of the {source.total} label images is of one of its "
            f"images: {source.rule}"
        )


def _first_stamps(bag: Bag, topic: str) -> list[int]:
    """In ns, as many as tell whether a camera stamps its images; none where one is damaged."""
    first = itertools.islice(bag.messages(topic), STANDSTILL)
    try:
        return [header_stamp_ns(bag.decode(c, data)) for c, _, data in first]
    except ImageError:
        return []


def _header(message: Any) -> ImageHeader:
    if message.__msgtype__ == RAW_IMAGE:
        return ImageHeader((message.width, message.height))
    return read_header(BytesIO(message.data))


def _check_orientation(bag: Bag, topic: str) -> None:
    """Raise InputError where the first image is turned by EXIF and labels would fit both ways."""
    connection, _, data = next(bag.messages(topic))
    try:
        header = _header(bag.decode(connection, data))
    except (ImageError, InputError):
        return  # damaged: a frame that fails when it is its turn
    name = f"{bag.path}, topic {topic}"
    fitting_turn(header.stored_size, header, "auto", f"labels of {name}", name)


def _check_encoding(bag: Bag, topic: str, take: Callable[[Any], object]) -> None:
    """Raise InputError where the first message says that all of its topic are of no use."""
    first = next(bag.messages(topic), None)
    if first is None:
        raise InputError(f"{bag.path}, topic {topic}: it has no messages")
    connection, _, data = first
    try:
        take(bag.decode(connection, data))
    except ImageError as error:
        if error.reason in ("unknown encoding", "not a colour image"):
            raise InputError(f"{bag.path}, topic {topic}: {error}") from error


def _merge(first: Connection | None, second: Connection) -> Connection:
    """What files of one bag say of one topic and type."""
    if first is None:
        return second
    ext, other = first.ext, second.ext
    if isinstance(ext, ConnectionExtRosbag2) and isinstance(other, ConnectionExtRosbag2):
        known = ext.offered_qos_profiles
        new = [qos for qos in other.offered_qos_profiles if qos not in known]
        ext = ext._replace(offered_qos_profiles=[*known, *new])
    defined = first if first.msgdef.data else second
    return defined._replace(msgcount=first.msgcount + second.msgcount, ext=ext)


@lru_cache
def _types(store: Stores) -> Typestore:
    """Types of the messages that ROS brings; images are the same in every distribution of ROS 2."""
    return get_typestore(store)
