"""Class ids, names and colours: what a label image means."""

from __future__ import annotations

import colorsys
import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import LONGEST_NAME, one_line
from sam2vss_ros.io.yaml_files import read_yaml
from sam2vss_ros.semantics.shipped import yaml_path

IMAGE_ID_LIMIT = 65536

GOLDEN = (5**0.5 - 1) / 2


FORMAT = (
    "it is YAML such as `name: mine`, `classes:` and a line `- {id: 0, name: Road, color: "
    "[128, 64, 128], thing: false}` for each class, see docs/classes.md"
)
"""What a class file looks like, for the messages that refuse one."""


@dataclass(frozen=True)
class SemanticClass:
    """One class: its id in label images, exact name, RGB colour, and whether it is countable."""

    id: int
    name: str
    color: tuple[int, int, int]
    thing: bool


@dataclass(frozen=True)
class ClassCatalog:
    """The classes of a label image, in the order of the classifier's outputs.

    `ignore_id` is the void label of the data set the classes come from (None: it has none).
    `version` counts the catalogs of a vocabulary, from 1 on; classes that stay have 0.
    Raises ValueError for ids or names that clash and for ids that no image can hold.
    """

    name: str
    classes: tuple[SemanticClass, ...]
    ignore_id: int | None = None
    version: int = 0

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError(f"class catalog {self.name}: it has no classes")
        for what in ("id", "name"):
            values = [getattr(c, what) for c in self.classes]
            twice = sorted({str(v) for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(
                    f"class catalog {self.name}: {what} used twice: {', '.join(twice)}"
                )
        for c in self.classes:
            if not 0 <= c.id < IMAGE_ID_LIMIT:
                raise ValueError(f"class catalog {self.name}: id {c.id} does not fit 16 bits")
            if c.id == self.ignore_id:
                raise ValueError(f"class catalog {self.name}: id {c.id} is also its ignore_id")
            if not c.name:
                raise ValueError(f"class catalog {self.name}: class {c.id} has no name")
            if len(c.color) != 3 or not all(0 <= v <= 255 for v in c.color):
                raise ValueError(f"class catalog {self.name}: {c.name}: a color is 3 x 0..255")

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """(C,) int64, the id of each class index."""
        return np.array([c.id for c in self.classes], np.int64)

    @cached_property
    def things(self) -> npt.NDArray[np.bool_]:
        """(C,) bool, which class indices are countable objects."""
        return np.array([c.thing for c in self.classes], bool)

    @cached_property
    def void_id(self) -> int:
        """The id of pixels without a class: `ignore_id`, else the first free one from 255 on."""
        if self.ignore_id is not None:
            return self.ignore_id
        return next(i for i in itertools.count(255) if i not in self.ids)

    def label_dtype(self, unlabelled_id: int) -> type[np.uint8] | type[np.uint16]:
        """uint8 where all ids and `unlabelled_id` fit 8 bits, else uint16.

        Raises ValueError where `unlabelled_id` is the id of a class.
        """
        for c in self.classes:
            if c.id == unlabelled_id:
                raise ValueError(f"unlabelled_id: {unlabelled_id} is the id of class {c.name}")
        return np.uint8 if max(int(self.ids.max()), unlabelled_id) < 256 else np.uint16

    def palette(self, unlabelled_color: tuple[int, int, int] = (0, 0, 0)) -> npt.NDArray[np.uint8]:
        """(65536, 3) uint8 RGB: colour by id, `unlabelled_color` where no class has the id."""
        table = np.empty((IMAGE_ID_LIMIT, 3), np.uint8)
        table[:] = unlabelled_color
        for c in self.classes:
            table[c.id] = c.color
        return table


def distinct_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of a class that has none of its own, far from those of its neighbours."""
    rgb = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.55 + 0.4 * (index % 2), 0.9)
    red, green, blue = (round(255 * v) for v in rgb)
    return red, green, blue


def parse_catalog(data: Any, source: str) -> ClassCatalog:
    """Build a catalog from the content of a class file. Raises ValueError naming `source`."""
    try:
        if not isinstance(data, dict) or not isinstance(data.get("classes"), list):
            raise ValueError("it has no list `classes` of {id, name, color}")
        if "name" not in data:
            raise ValueError("it has no `name`")
        classes = tuple(_parse_class(entry, place) for place, entry in enumerate(data["classes"]))
        ignore = data.get("ignore_id")
        if ignore is not None and not _is_whole(ignore, IMAGE_ID_LIMIT):
            raise ValueError(
                f"ignore_id is a whole number from 0 to {IMAGE_ID_LIMIT - 1}, not "
                f"{one_line(repr(ignore))}; leave it out where there is none"
            )
        return ClassCatalog(_name_of(data, "the file"), classes, ignore)
    except ValueError as error:
        raise ValueError(f"{source}: not a class file: {error}; {FORMAT}") from error


def _parse_class(entry: Any, place: int) -> SemanticClass:
    what = f"class {place + 1} of the list"
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is {one_line(repr(entry))}, not {{id, name, color}}")
    for key in ("id", "name", "color"):
        if key not in entry:
            raise ValueError(f"{what} has no {key}")
    if not _is_whole(entry["id"], IMAGE_ID_LIMIT):
        raise ValueError(
            f"{what}: id {one_line(repr(entry['id']))} does not fit 16 bits: it is a whole number "
            f"from 0 to {IMAGE_ID_LIMIT - 1}"
        )
    name, color = _name_of(entry, what), entry["color"]
    is_list = isinstance(color, list | tuple) and len(color) == 3
    if not is_list or not all(_is_whole(v, 256) for v in color):
        raise ValueError(
            f"{name}: a color is [red, green, blue], whole numbers from 0 to 255, not "
            f"{one_line(repr(color))}"
        )
    thing = entry.get("thing", False)
    if not isinstance(thing, bool):
        raise ValueError(f"{name}: thing is true or false, not {one_line(repr(thing))}")
    return SemanticClass(entry["id"], name, (color[0], color[1], color[2]), thing)


def _is_whole(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def _name_of(entry: dict[Any, Any], what: str) -> str:
    """The `name` of an entry; numbers are names, too, as in MNIST."""
    name = entry["name"]
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise ValueError(f"{what}: its name is text, not {one_line(repr(name))}: put it in quotes")
    if len(str(name)) > LONGEST_NAME or not str(name).isprintable():
        raise ValueError(
            f"{what}: a name has at most {LONGEST_NAME} characters that can be shown, not "
            f"{one_line(name, LONGEST_NAME)}"
        )
    return str(name)


def catalog_data(catalog: ClassCatalog) -> dict[str, Any]:
    """The inverse of `parse_catalog`: plain data for YAML or JSON."""
    return {
        "name": catalog.name,
        "ignore_id": catalog.ignore_id,
        "classes": [
            {"id": c.id, "name": c.name, "color": list(c.color), "thing": c.thing}
            for c in catalog.classes
        ],
    }


def load_catalog(name_or_path: str) -> ClassCatalog:
    """Load a class file by path, or a shipped one by name (`camvid`).

    Raises FileNotFoundError naming the file looked for and the shipped names; ValueError for a
    file that is no class file.
    """
    return parse_catalog(*read_class_file(name_or_path))


def read_class_file(name_or_path: str) -> tuple[Any, str]:
    """The content of a class file and its path, for `parse_catalog`. Raises as `load_catalog`."""
    path = yaml_path(name_or_path, CLASSES_FOLDER, "class file")
    try:
        return read_yaml(path), str(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not a class file: {error}; {FORMAT}") from error


CLASSES_FOLDER = Path(__file__).resolve().parents[1] / "classes"
