"""The label files of a folder: read by one set of rules, and laid over their images."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.config import MOST_PIXELS
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.image_files import (
    INVERSE,
    UPRIGHT,
    ImageHeader,
    read_header,
    read_label_pixels,
    turned,
)
from sam2vss_ros.io.label_pixels import LabelDecoder, LabelIds, settle
from sam2vss_ros.semantics.catalog import ClassCatalog

ORIENTATIONS = ("auto", "shown", "stored")


@dataclass(frozen=True)
class LabelRules:
    """What a user says of labels and of the names of files.

    catalog: what ids and colours mean. image_suffix, label_suffix: ends of the names that are no
    part of them. orientation: which pixels labels belong to where their image has an EXIF
    orientation: those shown, those stored, or those that fit (auto). most_pixels: of an image and
    of its labels.
    """

    catalog: ClassCatalog | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    orientation: str = "auto"
    most_pixels: int = MOST_PIXELS


class LabelReader:
    """Reads label files of one folder, all alike. `decoder.notes` says what is doubtful."""

    def __init__(self, rules: LabelRules | None = None, check_ids: bool = True) -> None:
        rules = rules or LabelRules()
        self.decoder = LabelDecoder(rules.catalog, check_ids)
        self._orientation, self._most = rules.orientation, rules.most_pixels

    def read(self, path: Path, turn: int = UPRIGHT) -> LabelIds:
        """(H, W) uint8 or uint16 class ids, turned by the EXIF orientation `turn` of their image.

        Raises InputError, UnfitLabelsError for labels of an unfit kind.
        """
        pixels, palette = read_label_pixels(path, str(path), self._most)
        ids = self.decoder.decode(pixels, str(path), palette)
        return ids if turn == UPRIGHT else turned(ids, turn)

    def settle(self, paths: Iterable[Path]) -> None:
        """Refuse files that are of no use by the first of them, see `label_pixels.settle`."""
        settle(functools.partial(self.read, path) for path in paths)

    def turn_of(self, labels: Path, image: Path) -> int:
        """The EXIF orientation that turns labels onto their image as it is shown.

        Raises InputError where the sizes differ, and where the image is turned and its labels fit
        both ways; what cannot be read is met again later.
        """
        try:
            of_image, of_labels = (read_header(path, self._most) for path in (image, labels))
        except InputError:
            return UPRIGHT
        return fitting_turn(of_labels.size, of_image, self._orientation, f"{labels}", f"{image}")


def read_labels(path: Path) -> LabelIds:
    """Read one label image without colours, see `LabelReader.read`. Raises InputError."""
    return LabelReader(check_ids=False).read(path)


def fitting_turn(
    size: tuple[int, int], image: ImageHeader, orientation: str, name: str, image_name: str
) -> int:
    """The EXIF orientation by which labels of a size (width, height) lie on an image as shown.

    orientation: one of ORIENTATIONS. Raises InputError as `LabelReader.turn_of` does.
    """
    turns = {"shown": UPRIGHT, "stored": image.orientation}
    sizes = {"shown": image.size, "stored": image.stored_size}
    allowed = turns if orientation == "auto" else [orientation]
    fitting = {turns[way] for way in allowed if sizes[way] == size}
    if not fitting:
        marked = ""
        if image.orientation != UPRIGHT:
            marked = f" (stored: {_by(image.stored_size)}, EXIF orientation {image.orientation})"
        raise InputError(
            f"{name} is {_by(size)}, its image {image_name} is {_by(image.size)}{marked}"
        )
    if len(fitting) > 1:
        raise InputError(
            f"{image_name} has the EXIF orientation {image.orientation}, and its labels {name} fit "
            "both ways: say with --label-orientation whether they belong to the image as it is "
            "shown or as it is stored"
        )
    return fitting.pop()


def turned_back(ids: LabelIds, image: ImageHeader, orientation: str, name: str) -> LabelIds:
    """Labels of an image in a message, laid over its pixels as they are stored.

    Raises InputError as `fitting_turn` does.
    """
    size = ids.shape[1], ids.shape[0]
    turn = fitting_turn(size, image, orientation, f"labels of {name}", name)
    back = UPRIGHT if turn == image.orientation else image.orientation
    return turned(ids, INVERSE.get(back, back))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
