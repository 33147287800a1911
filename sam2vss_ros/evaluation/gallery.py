"""The frames a labeller does worst on, as pictures: image, truth, prediction, errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.confusion import (
    ConfusionMatrix,
    Counts,
    IndexImage,
    LabelImage,
    pair_counts,
)
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.sizes import other_side

Image = npt.NDArray[np.uint8]

APART = 10
"""Frames of one stream nearer than this look alike: only the worst of them is kept."""

PANEL_WIDTH, QUALITY = 360, 82
OPACITY = 0.65
NONE, WRONG = np.array([[0, 0, 0], [235, 30, 60]], np.uint8)


@dataclass(frozen=True)
class BadFrame:
    """A frame among the worst. `panels` are JPEGs by what they show; `mistake` says in words what
    is wrong most."""

    stream: str
    index: int
    name: str
    miou: float
    mistake: str
    panels: dict[str, bytes]


class WorstFrames:
    """The `size` frames with the lowest mIoU, drawn when they enter; memory is constant."""

    def __init__(self, size: int, truth: ClassCatalog, predicted: ClassCatalog) -> None:
        self._size = size
        self._matrix = ConfusionMatrix(truth, predicted)
        self._colors = np.array([*(c.color for c in truth.classes), NONE], np.uint8)
        self._kept: list[BadFrame] = []

    def offer(
        self,
        place: tuple[str, int, str],
        miou: float,
        image: Image,
        labels: LabelImage,
        prediction: LabelImage,
    ) -> None:
        """Consider a frame: its stream, index and name, and what it shows.

        image: (H, W, 3) uint8 RGB; labels, prediction: (H, W) class ids.
        """
        stream, index, name = place
        if (gone := self._displaced(stream, index, miou)) is None:
            return
        rows, columns = self._matrix.index_images(labels, prediction)
        panels = _panels(image, rows, columns, self._colors)
        frame = BadFrame(stream, index, name, miou, self._mistake(rows, columns), panels)
        self._kept = [*(f for f in self._kept if f not in gone), frame]

    def take(self, frame: BadFrame) -> None:
        """Consider a frame that another gallery has kept."""
        if (gone := self._displaced(frame.stream, frame.index, frame.miou)) is not None:
            self._kept = [*(f for f in self._kept if f not in gone), frame]

    def _displaced(self, stream: str, index: int, miou: float) -> list[BadFrame] | None:
        """What a frame takes the place of; None where it is none of the worst."""
        alike = [f for f in self._kept if f.stream == stream and abs(f.index - index) < APART]
        full = len(self._kept) - len(alike) >= self._size
        gone = [max(self._kept, key=lambda f: f.miou)] if full else alike
        bar = min((f.miou for f in gone), default=math.inf)
        return gone if miou < bar else None  # nor where it is NaN

    def frames(self) -> list[BadFrame]:
        """What was kept, the worst first."""
        return sorted(self._kept, key=lambda f: f.miou)

    def _mistake(self, rows: IndexImage, columns: IndexImage) -> str:
        names = [*self._matrix.names, "no class"]
        counts: Counts = pair_counts(rows, columns, (len(names), len(names)))
        scored = counts[:-1].sum()
        np.fill_diagonal(counts, 0)
        counts[-1] = 0
        true, told = np.unravel_index(int(counts.argmax()), counts.shape)
        share = 100 * counts[true, told] / scored
        return f"{names[true]} taken for {names[told]}: {share:.1f} % of the pixels"


def _panels(image: Image, rows: IndexImage, columns: IndexImage, colors: Image) -> dict[str, bytes]:
    """JPEGs of image, truth, prediction and errors, each `PANEL_WIDTH` wide.

    colors: (C + 1, 3) RGB of the index images' values. Void and unlabelled pixels are black; in
    the last panel what is wrong is red, and what is right grey.
    """
    none = len(colors) - 1
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    wrong = ((rows != columns) & (rows != none))[..., None]
    errors = np.where(wrong, WRONG, cv2.convertScaleAbs(grey, alpha=0.6, beta=70))
    errors[rows == none] = NONE
    return {
        "image": _jpeg(image),
        "truth": _jpeg(_blend(image, colors[rows])),
        "prediction": _jpeg(_blend(image, colors[columns])),
        "errors in red": _jpeg(errors),
    }


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    size = PANEL_WIDTH, other_side(PANEL_WIDTH, width, height)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()


def _blend(image: Image, surface: Image) -> Image:
    return np.asarray(cv2.addWeighted(image, 1 - OPACITY, surface, OPACITY, 0), np.uint8)
