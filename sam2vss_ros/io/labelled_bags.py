"""The images of a bag joined with their label images, of a topic or in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.bags import RAW_IMAGE, TO_RGB, Bag, FrameDecoder, Section
from sam2vss_ros.io.image_files import ImageHeader, read_header, read_label_pixels
from sam2vss_ros.io.image_folders import files_by_number
from sam2vss_ros.io.label_files import LabelReader, LabelRules, fitting_turn, turned_back
from sam2vss_ros.io.label_pixels import LabelDecoder, UnfitLabelsError, settle
from sam2vss_ros.io.readers import BrokenFrame, LabelledFrame, LabelledStream
from sam2vss_ros.io.ros_images import label_pixels
from sam2vss_ros.io.stamps import header_stamp_ns

LABEL_WINDOW_NS = 2_000_000_000
"""How long before or after its image a label image may have been recorded. The label images of
twice this time are the most that is held in memory."""

Labels = npt.NDArray[np.integer]


def open_bag(
    path: Path,
    image_topic: str | None = None,
    label_topic: str | None = None,
    labels: Path | None = None,
    rules: LabelRules | None = None,
    section: Section | None = None,
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

    section: of the images, instead of all. Its warm-up comes without labels, and label images that
    have no image are counted as if the other sections did not exist.

    Raises InputError for what is no bag or a damaged one, a missing, empty or unsuitable topic and
    a folder that cannot be joined; at the end of reading of the whole topic, where no image or no
    labels could be used.
    """
    bag = Bag(path)
    image_topic = bag.find_image_topic(image_topic, besides=label_topic)
    _check_encoding(bag, image_topic, lambda message: TO_RGB[message.__msgtype__](message))
    rules = rules or LabelRules()
    reader, most = LabelReader(rules), rules.most_pixels
    if label_topic is not None:
        bag.check_topic(label_topic, list(TO_RGB))
        LabelTopic(bag, label_topic, reader.decoder, most).check()
    count = bag.topics[image_topic].count
    files = {} if labels is None else files_by_number(labels, rules.label_suffix)
    reader.settle(files[number] for number in sorted(files))
    orientation = rules.orientation if files else "stored"
    if orientation == "auto":
        _check_orientation(bag, image_topic, most)
    source: LabelSource | None = None

    def read() -> Iterator[LabelledFrame | BrokenFrame]:
        nonlocal source
        if label_topic is not None:
            since_ns = section.since_ns if section else 0
            source = LabelTopic(bag, label_topic, reader.decoder, most, since_ns)
        elif files:
            source = LabelFolder(files, max(files) < count, reader)
        decoder = FrameDecoder(bag, image_topic, most)
        yield from _read(bag, image_topic, decoder, source, orientation, section)

    def unmatched() -> int:
        return max(0, source.total - source.joined) if source else 0

    return LabelledStream(
        bag.path.name,
        section.count if section else count,
        read,
        unmatched,
        lambda: list(reader.decoder.notes.values()),
        section.first if section else 0,
        section.warm_up if section else 0,
    )


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
    """Label images of a topic of the bag, of at most `most` pixels, by their stamps."""

    rule = "their stamps must be equal to the nanosecond"

    def __init__(
        self, bag: Bag, topic: str, decoder: LabelDecoder, most: int, since_ns: int = 0
    ) -> None:
        self.total, self.joined = bag.topics[topic].count, 0
        self._bag, self._topic, self._decoder, self._most = bag, topic, decoder, most
        self._name = f"{bag.path}, topic {topic}"
        self._coming = bag.messages(topic, since_ns=max(0, since_ns - LABEL_WINDOW_NS))
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
        return read_label_pixels(BytesIO(message.data), self._name, self._most)


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
    bag: Bag,
    topic: str,
    decoder: FrameDecoder,
    source: LabelSource | None,
    orientation: str,
    section: Section | None,
) -> Iterator[LabelledFrame | BrokenFrame]:
    broken, frames = "", 0
    first, warm_up = (section.first, section.warm_up) if section else (0, 0)
    for index, (connection, time, data) in enumerate(bag.section(topic, section), first):
        name, frame = f"{index:06d}", None
        try:
            message = bag.decode(connection, data)
            frame = decoder.frame(message, time)
            frames += 1
            labels = None
            if source and index >= first + warm_up:
                labels = source.find(index, header_stamp_ns(message), time)
            if labels is not None and orientation != "stored":
                labels = turned_back(
                    labels, _header(message, decoder.most_pixels), orientation, f"image {index}"
                )
            if labels is not None and labels.shape != frame.image.shape[:2]:
                (h, w), (height, width) = labels.shape, frame.image.shape[:2]
                raise ImageError("labels of another size", f"{w}x{h}, image {width}x{height}")
        except (ImageError, InputError) as error:
            broken = broken or str(error)
            yield BrokenFrame(name, str(error), frame)
        else:
            yield LabelledFrame(frame, labels, name)
    if section:  # of the others nothing is known here
        return
    if frames == 0:
        raise InputError(f"{bag.path}, topic {topic}: no image can be used: {broken}")
    if source and source.joined == 0:
        raise InputError(
            f"{bag.path}, topic {topic}: none of the {source.total} label images is of one of its "
            f"images: {source.rule}"
        )


def _header(message: Any, most: int) -> ImageHeader:
    if message.__msgtype__ == RAW_IMAGE:
        return ImageHeader((message.width, message.height))
    return read_header(BytesIO(message.data), most)


def _check_orientation(bag: Bag, topic: str, most: int) -> None:
    """Raise InputError where the first image is turned by EXIF and labels would fit both ways."""
    connection, _, data = next(bag.messages(topic))
    try:
        header = _header(bag.decode(connection, data), most)
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
