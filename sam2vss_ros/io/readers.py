"""Frames and label images from files: a video, or a folder of images; alone or joined."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sam2vss_ros.errors import InputError
from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEFAULT_RATE = 30.0
"""Frames per second of material that does not say its own."""

Rgb = npt.NDArray[np.uint8]


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
    (known once `read` has ended).
    """

    name: str
    count: int
    read: Callable[[], Iterator[LabelledFrame | BrokenFrame]]
    unmatched: Callable[[], int] = lambda: 0


def open_frames(path: str | Path, rate: float = 0.0) -> FrameSource:
    """Open a video file or a folder of images (in the order of their names).

    `rate` in frames per second replaces the video's own; 0 keeps it (folders: 30).
    Raises InputError for what does not exist or holds no frames.
    """
    path = Path(path).expanduser()
    if rate < 0:
        raise InputError(f"rate: {rate} is not a positive number of frames per second")
    if path.is_dir():
        images = list_images(path)
        return FrameSource(path, rate or DEFAULT_RATE, len(images), lambda: map(read_image, images))
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    capture = _open_video(path)
    own_rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return FrameSource(
        path, rate or own_rate or DEFAULT_RATE, max(0, int(count)), lambda: _read_video(path)
    )


def labelled_folder(images: Path, labels: Path, rate: float = 0.0) -> list[LabelledStream]:
    """Join images and label images by file stem, and stems into streams (`stems_by_stream`).

    Frames are in the order of their names, 1 / `rate` seconds apart (0: 30 frames per second).
    Images without labels stay in their stream, unscored; label images without an image are counted
    with the first stream. Raises InputError where nothing matches, two files have one stem, or a
    label image is of another size than its image.
    """
    image_of, labels_of = images_by_stem(images), images_by_stem(labels)
    common = image_of.keys() & labels_of.keys()
    if not common:
        raise InputError(
            f"no image in {images} has labels in {labels}: files are joined by their names "
            f"without suffix, such as {next(iter(image_of))} and {next(iter(labels_of))}"
        )
    for stem in sorted(common):
        _check_sizes(image_of[stem], labels_of[stem])
    streams: list[LabelledStream] = []
    unmatched, first = len(labels_of) - len(common), 0
    for name, stems in stems_by_stream(image_of).items():
        pairs = [(image_of[stem], labels_of.get(stem)) for stem in stems]
        read = functools.partial(_read_pairs, pairs, first, rate or DEFAULT_RATE)
        streams.append(LabelledStream(name, len(pairs), read, functools.partial(int, unmatched)))
        unmatched, first = 0, first + len(pairs)
    return streams


def labelled_video(video: Path, labels: Path, rate: float = 0.0) -> LabelledStream:
    """Join the frames of a video with label images named by the frame's index, counted from 0.

    The index is the number at the end of the file's name: `000012.png` (as `sam2vss run` writes
    them) or `drive_12.png`. Frames without labels are seen, not scored. `rate` replaces the video's
    own. Raises InputError for names without a number and for two files of one frame.
    """
    source = open_frames(video, rate)
    labels_of = files_by_number(labels)
    joined: set[int] = set()

    def read() -> Iterator[LabelledFrame | BrokenFrame]:
        for index, frame in enumerate(source):
            if index in labels_of:
                joined.add(index)
            yield _with_labels(f"{index:06d}", frame, labels_of.get(index))

    return LabelledStream(video.stem, source.count, read, lambda: len(labels_of.keys() - joined))


def stamp_ns(index: int, rate: float) -> int:
    """Capture time in nanoseconds of frame `index` at `rate` frames per second."""
    return round(index * 1e9 / rate)


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, sorted by name. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise InputError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return images


def files_by_number(folder: Path) -> dict[int, Path]:
    """The images of a folder by the number at the end of their names, `000012.png` or `a_12.png`.

    Raises InputError for a name without a number and for two files with one number.
    """
    files: dict[int, Path] = {}
    for path in list_images(folder):
        digits = re.search(r"\d+$", path.stem)
        if digits is None:
            raise InputError(f"{path}: its name does not end with the number of its frame")
        number = int(digits[0])
        if number in files:
            raise InputError(f"{files[number]} and {path} have one number")
        files[number] = path
    return files


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by name without suffix. Raises InputError for two of one name."""
    stems: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in stems:
            raise InputError(f"{stems[path.stem]} and {path} have one name but for the suffix")
        stems[path.stem] = path
    return stems


def stems_by_stream(stems: Iterable[str]) -> dict[str, list[str]]:
    """The stems of each stream, sorted; a stream's name is what its stems have before the first
    `_`. Those without one (`000012`) are together the stream `frames`."""
    streams: dict[str, list[str]] = {}
    for stem in sorted(stems):
        prefix, underscore, _ = stem.partition("_")
        streams.setdefault(prefix if underscore else "frames", []).append(stem)
    return streams


def read_image(path: Path) -> Rgb:
    """Read a colour or grey image as (H, W, 3) uint8 RGB. Raises InputError."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path} cannot be read as an image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(path: Path) -> npt.NDArray[np.integer]:
    """Read a label image as (H, W) class ids: grey of 8 or 16 bits, or the indices of a palette.

    Raises InputError for colour images and for what is no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise InputError(
                    f"{path} is an image of mode {image.mode}; label images hold one id per pixel "
                    "(grey of 8 or 16 bits, or palette)"
                )
            ids = np.asarray(image)
    except (OSError, SyntaxError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        raise InputError(f"{path} cannot be read as a label image: {error}") from error
    if ids.min() < 0 or ids.max() >= IMAGE_ID_LIMIT:
        raise InputError(f"{path} holds ids from {ids.min()} to {ids.max()}; they end at 65535")
    return ids


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header, without decoding it. Raises InputError."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


def _read_pairs(
    pairs: Sequence[tuple[Path, Path | None]], first: int, rate: float
) -> Iterator[LabelledFrame | BrokenFrame]:
    """Frames with their labels; the stamp counts from `first`."""
    for index, (image, labels) in enumerate(pairs, first):
        try:
            frame = Frame(read_image(image), stamp_ns(index, rate))
        except InputError as error:
            yield BrokenFrame(image.stem, str(error))
        else:
            yield _with_labels(image.stem, frame, labels)


def _with_labels(name: str, frame: Frame, labels: Path | None) -> LabelledFrame | BrokenFrame:
    try:
        return LabelledFrame(frame, None if labels is None else read_labels(labels), name)
    except InputError as error:
        return BrokenFrame(name, str(error), frame)


def _check_sizes(image: Path, labels: Path) -> None:
    """Refuse labels of another size than their image; what cannot be read is met again later."""
    try:
        size, label_size = image_size(image), image_size(labels)
    except InputError:
        return
    if size != label_size:
        raise InputError(
            f"{labels} is {label_size[0]}x{label_size[1]}, its image {image} is {size[0]}x{size[1]}"
        )


def _open_video(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path} cannot be opened as a video: damaged, or a codec OpenCV lacks")
    return capture


def _read_video(path: Path) -> Iterator[Rgb]:
    capture = _open_video(path)
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
