"""Camera images and label images from bags, without ROS.

A bag is a rosbag2 recording (mcap or sqlite3; its folder or its bare file, see `bag_files`) or a
ROS 1 `.bag`. Its messages come in the order in which they were recorded, as a player sends them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.bag_files import BagFiles, unpacked_message
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.ros_images import RgbImage, compressed_to_rgb, image_to_rgb
from sam2vss_ros.io.stamps import STANDSTILL, CaptureTimes, header_stamp_ns, stand_still
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

RAW_IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
TO_RGB: dict[str, Callable[..., RgbImage]] = {
    RAW_IMAGE: image_to_rgb,
    COMPRESSED_IMAGE: compressed_to_rgb,
}


@dataclass(frozen=True)
class Topic:
    """The type of a topic's messages, as sensor_msgs/msg/Image, and how many there are."""

    type: str
    count: int


@dataclass(frozen=True)
class Section:
    """Messages of one topic on end: `count` of them, after `warm_up` that only lead to them.

    first: index among the topic's messages of the first that is read, which was recorded at
    `since_ns` as the first of all that were not recorded before.
    """

    since_ns: int
    first: int
    warm_up: int
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

    def messages(self, *topics: str, since_ns: int = 0) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording in ns and bytes of these topics' messages, all if none.

        since_ns: only of what was recorded then or later. Raises InputError where the bag is
        damaged.
        """
        wanted = topics or tuple(self.topics)
        with self._refusing():
            for storage in self._files.storages:
                for own, time, data in storage.messages(wanted, since_ns):
                    connection = self._merged[own.topic, own.msgtype]
                    ext = connection.ext
                    if isinstance(ext, ConnectionExtRosbag2) and ext.serialization_format == "cdr":
                        data = unpacked_message(data)
                    yield connection, time, data

    def section(
        self, topic: str, section: Section | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """As `messages`, of a section of a topic with its warm-up; None: the whole topic."""
        if section is None:
            return self.messages(topic)
        coming = self.messages(topic, since_ns=section.since_ns)
        return itertools.islice(coming, section.warm_up + section.count)

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
        self.most_pixels = most_pixels
        self._contrast = Contrast()
        self._times = CaptureTimes(stand_still(_first_stamps(bag, topic)))
        self._place = f"{bag.path}, topic {topic}"
        self._told = False

    def frame(self, message: Any, recorded_ns: int) -> Frame:
        """The next frame, with the stamp of the message's header.

        Raises ImageError for a broken image and for one with the stamp of the frame before.
        """
        image = TO_RGB[message.__msgtype__](message, self.most_pixels, self._contrast)
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


def _first_stamps(bag: Bag, topic: str) -> list[int]:
    """In ns, as many as tell whether a camera stamps its images; none where one is damaged."""
    first = itertools.islice(bag.messages(topic), STANDSTILL)
    try:
        return [header_stamp_ns(bag.decode(c, data)) for c, _, data in first]
    except ImageError:
        return []


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
