"""The demo's pictures: the contact sheet of a video, and several videos as one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.io.outputs import write_bytes
from sam2vss_ros.io.overlay import contact_sheet
from sam2vss_ros.io.readers import open_frames
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.semantics.catalog import ClassCatalog

Rgb = npt.NDArray[np.uint8]

SHEET_IMAGES, SHEET_COLUMNS, SHEET_CELL = 12, 4, 480
GRID_WIDTH = 1920
"""Pixels: a grid of videos is made smaller to be no wider than this, but for its gaps."""

FONT, WHITE, INK = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (24, 24, 24)


@dataclass(frozen=True)
class Recording:
    """The overlay video of a camera; `begins` is the stamp of its first frame in ns."""

    name: str
    video: Path
    begins: int


def write_contact_sheet(
    video: Path, path: Path, catalog: ClassCatalog | None, across: int = 1
) -> None:
    """A PNG with images of a video, evenly spaced, and the legend of a catalog.

    across: how many pictures one frame of the video shows side by side; the more, the larger and
    the fewer are the images.
    """
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted_count = max(1, SHEET_IMAGES // across)
    wanted = {round((i + 0.5) * count / wanted_count - 0.5) for i in range(wanted_count)}
    images = []
    for index in range(count):
        if capture.grab() and index in wanted:
            images.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    columns = max(1, SHEET_COLUMNS // across)
    sheet = contact_sheet(images, columns, SHEET_CELL * across, catalog)
    write_bytes(
        path, cv2.imencode(path.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()
    )


def write_grid(recordings: Sequence[Recording], path: Path, rate: float) -> None:
    """A video of all recordings side by side, each with its name, in step by their stamps.

    The last picture of one that ends before the others stays, at half its brightness. rate: of all
    of them and of the grid, in frames per second. Raises InputError as open_frames and VideoWriter
    do.
    """
    begin = min(recording.begins for recording in recordings)
    videos = [
        in_step(open_frames(recording.video).read(), round((recording.begins - begin) * rate / 1e9))
        for recording in recordings
    ]
    names = [recording.name for recording in recordings]
    shown: list[Rgb] = []
    with VideoWriter(path, rate) as grid:
        for images in itertools.zip_longest(*videos):
            shown = [shown[i] if image is None else image for i, image in enumerate(images)]
            cells = [
                np.asarray(cell // 2, np.uint8) if image is None else cell
                for cell, image in zip(shown, images, strict=True)
            ]
            grid.write(side_by_side(cells, names))


def in_step(frames: Iterator[Rgb], late: int) -> Iterator[Rgb]:
    """The frames of a camera that began `late` frames after the first: black ones come before."""
    first = next(frames)
    for _ in range(late):
        yield np.zeros_like(first)
    yield first
    yield from frames


def grid_columns(count: int) -> int:
    """Columns of a grid of `count` pictures that is as high as wide, or a little wider."""
    return math.isqrt(count - 1) + 1


def side_by_side(images: Sequence[Rgb], names: Sequence[str]) -> Rgb:
    """(H, W, 3) RGB images of one size in a grid, row by row, each with its name in its corner."""
    columns = grid_columns(len(images))
    width = min(images[0].shape[1], GRID_WIDTH // columns)
    height = round(images[0].shape[0] * width / images[0].shape[1])
    scaled = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    for image, name in zip(scaled, names, strict=True):
        _write_name(image, name)
    return contact_sheet(scaled, columns, width)


def _write_name(image: Rgb, name: str) -> None:
    """Write on a dark plate in the upper left corner, as large as the width allows."""
    wanted = max(0.5, image.shape[1] / 900)
    (width, _), _ = cv2.getTextSize(name, FONT, wanted, 1)
    scale = wanted * min(1.0, 0.9 * image.shape[1] / width)
    (width, height), below = cv2.getTextSize(name, FONT, scale, 1)
    cv2.rectangle(image, (0, 0), (width + 12, height + below + 8), INK, cv2.FILLED)
    cv2.putText(image, name, (6, height + 6), FONT, scale, WHITE, 1, cv2.LINE_AA)
