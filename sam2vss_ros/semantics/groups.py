"""Classes that are taken together under one name, written `people=Pedestrian,Bicyclist`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam2vss_ros.errors import LONGEST_MESSAGE, brief, few, one_line
from sam2vss_ros.spelling import nearest

if TYPE_CHECKING:  # the options name this module, and help is to load nothing
    from sam2vss_ros.semantics.catalog import ClassCatalog

ROS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What can stand in a topic; double underscores are looked for besides."""

CAMERA_INFO = "camera_info"
"""What lies beside the masks under this name."""

MOST_SHOWN = 24
"""Classes that a message names."""


@dataclass(frozen=True)
class ClassGroup:
    """Names of classes under a name that can stand in a topic."""

    name: str
    classes: tuple[str, ...]


def parse_group(entry: str) -> ClassGroup:
    """The group `name=class,class`; a class alone stands for itself. Raises ValueError."""
    name, equals, listed = (part.strip() for part in entry.partition("="))
    classes = tuple(c.strip() for c in listed.split(",")) if equals else (name,)
    shown = brief(repr(entry))
    if not name:
        raise ValueError(f"{shown} has no name: write Car, or people=Pedestrian,Bicyclist")
    if not ROS_NAME.fullmatch(name) or "__" in name:
        helps = "" if equals else f"; give it one, as in my_name={brief(name)}"
        raise ValueError(
            f"{shown}: {brief(name)} cannot stand in a topic: letters, digits and single _, a "
            f"letter first{helps}"
        )
    if not all(classes):
        raise ValueError(f"{shown}: a class is missing: write people=Pedestrian,Bicyclist")
    if len(set(classes)) < len(classes):
        raise ValueError(f"{shown} names a class twice")
    return ClassGroup(name, classes)


def check_masks(entries: Iterable[str]) -> None:
    """Raise ValueError where an entry of the option `masks` is no group, or two have one name."""
    try:
        names = [_mask_name(entry) for entry in entries]
    except ValueError as error:
        raise ValueError(f"masks: {error}") from error
    if len(set(names)) < len(names):
        raise ValueError(f"masks: {brief(', '.join(names))}: each name counts once")


def _mask_name(entry: str) -> str:
    name = parse_group(entry).name
    if name == CAMERA_INFO:
        raise ValueError(f"{brief(repr(entry))}: the calibration has the topic mask/{CAMERA_INFO}")
    return name


def ids_of(group: ClassGroup, catalog: ClassCatalog) -> tuple[int, ...]:
    """The ids of a group's classes. Raises ValueError naming those that the catalog has not."""
    ids = {c.name: c.id for c in catalog.classes}
    missing = [name for name in group.classes if name not in ids]
    if missing:
        by_lower = {name.lower(): name for name in ids}
        meant = by_lower.get(nearest(missing[0], by_lower))
        raise ValueError(
            one_line(
                f"{group.name}: no class {few(map(repr, missing))} in {brief(catalog.name)}"
                + (f", do you mean {meant}?" if meant else "")
                + f"; there are {few(ids, MOST_SHOWN)}",
                LONGEST_MESSAGE,
            )
        )
    return tuple(ids[name] for name in group.classes)


def mask_ids(entries: Iterable[str], catalog: ClassCatalog) -> dict[str, tuple[int, ...]]:
    """Name -> ids of the classes of every entry of the option `masks`.

    Raises ValueError naming the option, the entry and the classes that there are.
    """
    try:
        return {g.name: ids_of(g, catalog) for g in map(parse_group, entries)}
    except ValueError as error:
        raise ValueError(f"masks: {error}") from error
