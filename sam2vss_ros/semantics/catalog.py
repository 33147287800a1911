"""Class ids, names and colours: what a label image means."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from sam2vss_ros.semantics.shipped import yaml_path

IMAGE_ID_LIMIT = 65536


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
    Raises ValueError for ids or names that clash and for ids that no image can hold.
    """

    name: str
    classes: tuple[SemanticClass, ...]
    ignore_id: int | None = None

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


def parse_catalog(data: Any, source: str) -> ClassCatalog:
    """Build a catalog from the content of a class file. Raises ValueError naming `source`."""
    try:
        classes = tuple(
            SemanticClass(
                int(c["id"]),
                str(c["name"]),
                tuple(int(v) for v in c["color"]),  # type: ignore[arg-type]
                bool(c.get("thing", False)),
            )
            for c in data["classes"]
        )
        ignore = data.get("ignore_id")
        return ClassCatalog(str(data["name"]), classes, None if ignore is None else int(ignore))
    except ValueError as error:
        raise ValueError(f"{source}: not a class file: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: not a class file: {error!r}") from error


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
        return yaml.safe_load(path.read_text(encoding="utf-8")), str(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a class file: {error}") from error


CLASSES_FOLDER = Path(__file__).resolve().parents[1] / "classes"
