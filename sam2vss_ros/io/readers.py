"""Frames and label images from files: a video, or a folder of images; alone or joined."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.image_files import UPRIGHT, Rgb, read_image
from sam2vss_ros.io.image_folders import (
    files_by_number,
    images_by_stem,
    join,
    list_images,
    natural_order,
    stems_by_stream,
    unjoined,
)
from sam2vss_ros.io.image_headers import check_pixels
from sam2vss_ros.io.label_files import LabelReader, LabelRules
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

DEFAULT_RATE = 30.0
"""Frames per second of material that does not say its own."""


@dataclass(frozen=True)
class FrameSource:
    """The frames of one camera in order; every iteration reads them from the start.

    `rate` is in frames per second; frame i carries the stamp i / rate. `count` is the number of
    frames that the source claims to have, 0 where it does not know.
    """

    path: Path
    rate: float
    count: int
    read: Callable[[], Iterator[Rgb]]

    def __iter__(self) -> Iterator[Frame]:
        """Raises InputError for a frame that cannot be read."""
        for index, image in enumerate(self.read()):
            yield Frame(image, stamp_ns(index, self.rate))


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with its ground truth, (H, W) class ids; `labels` is None where it has none."""

    frame: Frame
    labels: npt.NDArray[np.integer] | None
    name: str


@dataclass(frozen=True)
class BrokenFrame:
    """A frame that cannot be read, or whose labels cannot; it is counted and the next one follows.

    `frame` is its image where only the labels are broken: it is seen, not scored.
    """

    name: str
    reason: str
    frame: Frame | None = None


@dataclass(frozen=True)
class LabelledStream:
    """The frames of one camera in order, some or all of them labelled.

    `count` is the number of frames, 0 where it is not known. `read` starts from the first frame at
    every call; a frame that cannot be read is a `BrokenFrame`, material that cannot be read at all
    an InputError. `unmatched` counts what could not be joined: label images without an image
    (known once `read` has ended), `notes` says what makes its labels doubtful, as far as they were
    read. Of a part of a stream `first` is the index of the first frame that is read, and the first
    `warm_up` frames, which `count` does not count, are seen and not scored.
    """

    name: str
    count: int
    read: Callable[[], Iterator[LabelledFrame | BrokenFrame]]
    unmatched: Callable[[], int] = lambda: 0
    notes: Callable[[], list[str]] = list
    first: int = 0
    warm_up: int = 0


def open_frames(path: str | Path, rate: float = 0.0, most: int = MOST_PIXELS) -> FrameSource:
    """Open a video file or a folder of images (in the natural order of their names).

    `rate` in frames per second replaces the video's own; 0 keeps it (folders: 30). most: pixels of
    an image. Raises InputError for what does not exist, holds no frames or larger ones.
    """
    path = Path(path).expanduser()
    if rate < 0:
        raise InputError(f"rate: {rate} is not a positive number of frames per second")
    if path.is_dir():
        images = list_images(path)
        _warn_of_twins(images)
        read = functools.partial(_read_images, images, most)
        return FrameSource(path, rate or DEFAULT_RATE, len(images), read)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    capture = _open_video(path, most)
    own_rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return FrameSource(
        path, rate or own_rate or DEFAULT_RATE, max(0, int(count)), lambda: read_video(path, most)
    )


def labelled_folder(
    images: Path, labels: Path, rate: float = 0.0, rules: LabelRules | None = None
) -> list[LabelledStream]:
    """Join images and label images by their names, and names into streams (`stems_by_stream`).

    Frames are in the natural order of their names, 1 / `rate` seconds apart (0: 30 frames per
    second). Images without labels stay in their stream, unscored; label images without an image are
    counted with the first stream. Raises InputError where nothing matches, two files have one name,
    labels do not fit their image, or the first label image is of a kind that is of no use.
    """
    rules = rules or LabelRules()
    files = join(
        {
            "images": images_by_stem(images, rules.image_suffix),
            "labels": images_by_stem(labels, rules.label_suffix),
        }
    )
    image_of, labels_of = files["images"], files["labels"]
    common = sorted(image_of.keys() & labels_of.keys(), key=natural_order)
    if not common:
        raise InputError(
            f"no image in {images} has labels in {labels}: "
            f"{unjoined({images: image_of, labels: labels_of})}"
        )
    if image_of[common[0]].resolve() == labels_of[common[0]].resolve():
        raise InputError(
            f"{image_of[common[0]]} would be an image and its own labels: say which files are what "
            "with --image-suffix and --label-suffix"
        )
    reader = LabelReader(rules)
    turns = {name: reader.turn_of(labels_of[name], image_of[name]) for name in common}
    reader.settle(labels_of[name] for name in common)
    streams: list[LabelledStream] = []
    unmatched, first = len(labels_of) - len(common), 0
    for stream, names in stems_by_stream(image_of).items():
        pairs = [
            _Pair(PurePosixPath(name).name, image_of[name], labels_of.get(name), turns.get(name, 1))
            for name in names
        ]
        read = functools.partial(
            _read_pairs, pairs, first, rate or DEFAULT_RATE, reader, rules.most_pixels
        )
        streams.append(
            LabelledStream(
                stream,
                len(pairs),
                read,
                functools.partial(int, unmatched),
                lambda: list(reader.decoder.notes.values()),
            )
        )
        unmatched, first = 0, first + len(pairs)
    return streams


def labelled_video(
    video: Path, labels: Path, rate: float = 0.0, rules: LabelRules | None = None
) -> LabelledStream:
    """Join the frames of a video with label images named by the frame's index, counted from 0.

    The index is the number at the end of the file's name: `000012.png` (as `sam2vss run` writes
    them) or `drive_12.png`. Frames without labels are seen, not scored. `rate` replaces the video's
    own. Raises InputError for names without a number, for two files of one frame, and where the
    first label image is of a kind that is of no use.
    """
    rules = rules or LabelRules()
    source = open_frames(video, rate, rules.most_pixels)
    labels_of = files_by_number(labels, rules.label_suffix)
    reader = LabelReader(rules)
    reader.settle(labels_of[number] for number in sorted(labels_of))
    joined: set[int] = set()

    def read() -> Iterator[LabelledFrame | BrokenFrame]:
        for index, frame in enumerate(source):
            if index in labels_of:
                joined.add(index)
            yield _with_labels(f"{index:06d}", frame, labels_of.get(index), reader)

    return LabelledStream(
        video.stem,
        source.count,
        read,
        lambda: len(labels_of.keys() - joined),
        lambda: list(reader.decoder.notes.values()),
    )


def stamp_ns(index: int, rate: float) -> int:
    """Capture time in nanoseconds of frame `index` at `rate` frames per second."""
    return round(index * 1e9 / rate)


def _warn_of_twins(images: Sequence[Path]) -> None:
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            log.warning("%s and %s have one name but for the suffix: both are frames", one, other)
            return


@dataclass(frozen=True)
class _Pair:
    """An image and its labels, which are turned onto it by the EXIF orientation `turn`."""

    name: str
    image: Path
    labels: Path | None
    turn: int


def _read_images(images: Sequence[Path], most: int) -> Iterator[Rgb]:
    contrast = Contrast()
    return (read_image(image, most, contrast) for image in images)


def _read_pairs(
    pairs: Sequence[_Pair], first: int, rate: float, reader: LabelReader, most: int
) -> Iterator[LabelledFrame | BrokenFrame]:
    """Frames with their labels; the stamp counts from `first`."""
    contrast = Contrast()
    for index, pair in enumerate(pairs, first):
        try:
            frame = Frame(read_image(pair.image, most, contrast), stamp_ns(index, rate))
        except InputError as error:
            yield BrokenFrame(pair.name, str(error))
        else:
            yield _with_labels(pair.name, frame, pair.labels, reader, pair.turn)


def _with_labels(
    name: str, frame: Frame, labels: Path | None, reader: LabelReader, turn: int = UPRIGHT
) -> LabelledFrame | BrokenFrame:
    try:
        return LabelledFrame(frame, None if labels is None else reader.read(labels, turn), name)
    except InputError as error:
        return BrokenFrame(name, str(error), frame)


def read_video(path: Path | str, most: int = MOST_PIXELS) -> Iterator[Rgb]:
    """The frames of a video file, or of a recording at an address, as (H, W, 3) uint8 RGB.

    Raises InputError where there is none, and where frames have more than `most` pixels; the log
    tells where it ends early.
    """
    capture = _open_video(path, most)
    claimed, count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    try:
        while (grabbed := capture.read())[0]:
            count += 1
            yield np.asarray(cv2.cvtColor(grabbed[1], cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()
    if count == 0:
        raise InputError(f"{path} has no frame that can be decoded")
    if count < claimed:
        log.warning("%s ends after %d of the %d frames it claims to have", path, count, claimed)


def _open_video(path: Path | str, most: int) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path} cannot be opened as a video: damaged, or a codec OpenCV lacks")
    check_capture(capture, path, most)
    return capture


def check_capture(capture: cv2.VideoCapture, name: Path | str, most: int) -> None:
    """Raise InputError, and let go of the capture, for frames of more than `most` pixels."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    try:
        check_pixels(int(width), int(height), most)
    except ImageError as error:
        capture.release()
        raise InputError(f"{name}: {error.detail}") from error
