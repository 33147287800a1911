"""Frames and label images from files: a video, or a folder of images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEFAULT_RATE = 30.0
"""Frames per second of material that does not say its own."""

Rgb = npt.NDArray[np.uint8]


class InputError(ValueError):
    """What the user gave cannot be used; the message names the file and the reason."""


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
class LabelledStream:
    """The frames of one camera in order, some or all of them labelled.

    `count` is the number of frames, 0 where it is not known. `read` starts from the first frame at
    every call; it raises InputError for a frame that cannot be read. `unmatched` counts what could
    not be joined: label images without an image (known once `read` has ended).
    """

    name: str
    count: int
    read: Callable[[], Iterator[LabelledFrame]]
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
