"""What the demo's camera shows: a video, a folder of images, a bag, or the procedural street."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.errors import ImageError, InputError
from sam2vss_ros.io.bags import TO_RGB, Bag
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.training.procedural import street_video

Rgb = npt.NDArray[np.uint8]

BAG_SUFFIXES = (".bag", ".db3", ".mcap")
STREET_SEED, STREET_FRAMES, STREET_RATE = 1, 450, 30.0


@dataclass(frozen=True)
class Clip:
    """Frames of one size; every call of `read` begins at the first. `count` 0: not known."""

    name: str
    count: int
    read: Callable[[], Iterator[Rgb]]


def open_clip(path: Path, size: tuple[int, int]) -> Clip:
    """Open a video file, a folder of images or a bag (its first topic with images).

    `size` is (width, height) in pixels; frames of other proportions are cropped at their sides.
    Raises InputError.
    """
    path = path.expanduser()
    if path.suffix in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        count, read = _open_bag(path)
    else:
        frames = open_frames(path)
        count, read = frames.count, frames.read
    return Clip(path.name, count, lambda: (fit(image, size) for image in read()))


def fit(image: Rgb, size: tuple[int, int]) -> Rgb:
    """Crop the middle of an (H, W, 3) image to the proportions of `size` (w, h) and resize it."""
    height, width = image.shape[:2]
    scale = min(width / size[0], height / size[1])
    w, h = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - w) // 2, (height - h) // 2
    cropped = image[top : top + h, left : left + w]
    if (w, h) == size:
        return np.ascontiguousarray(cropped)
    shrinks = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cropped, size, interpolation=shrinks), np.uint8)


def street_clip(folder: Path, size: tuple[int, int]) -> Path:
    """The file with 15 seconds of the procedural street; drawn, with a progress bar, if missing.

    `size` is (width, height) in pixels. Raises ValueError for one that cannot be drawn.
    """
    path = folder / f"street_{size[0]}x{size[1]}.avi"
    if path.is_file():
        return path
    unfinished = path.with_suffix(".part.avi")
    frames = street_video(STREET_SEED, STREET_FRAMES, (size[1], size[0]))
    video = cv2.VideoWriter(str(unfinished), cv2.VideoWriter.fourcc(*"MJPG"), STREET_RATE, size)
    video.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
    for rgb, _, _ in tqdm(frames, "drawing", STREET_FRAMES, unit="frame", leave=False):
        video.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    video.release()
    return unfinished.rename(path)


def _open_bag(path: Path) -> tuple[int, Callable[[], Iterator[Rgb]]]:
    bag = Bag(path)
    topics = bag.image_topics()
    if not topics:
        raise InputError(f"{path} holds no topic with images; it {bag.contents()}")
    return bag.topics[topics[0]].count, lambda: _read_bag(bag, topics[0])


def _read_bag(bag: Bag, topic: str) -> Iterator[Rgb]:
    contrast = Contrast()
    try:
        for connection, _, data in bag.messages(topic):
            message = bag.decode(connection, data)
            yield TO_RGB[message.__msgtype__](message, contrast=contrast)
    except ImageError as error:
        raise InputError(f"{bag.path}, topic {topic}: {error}") from error
