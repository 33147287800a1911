"""Parameter files: which cannot be read, and of which nothing is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sam2vss_ros.io.yaml_files import read_yaml

PARAMETERS = "ros__parameters"


def broken_file(arguments: Sequence[str]) -> str:
    """Which parameter file on a command line cannot be read, and why; empty where all can."""
    for path in _files(arguments):
        try:
            read_yaml(path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        except ValueError as error:
            return f"{path}: {error}"
    return ""


def files_without_us(arguments: Sequence[str], node: str) -> Iterator[tuple[Path, list[str]]]:
    """The parameter files on a command line that have parameters for other nodes alone, and the
    names of these.

    node: the full name of ours. rcl has read the files: they are there.
    """
    for path in _files(arguments):
        try:
            names = list(_nodes(read_yaml(path)))
        except ValueError:
            continue  # what rcl alone can read may be for us
        if names and not any(_matches(name, node) for name in names):
            yield path, names


def _files(arguments: Sequence[str]) -> list[Path]:
    return [Path(path) for flag, path in pairwise(arguments) if flag == "--params-file"]


def _nodes(content: Any, place: str = "") -> Iterator[str]:
    """The full names of the nodes in a parameter file, in which / or nesting divides."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if key == PARAMETERS:
            yield place
        else:
            yield from _nodes(value, f"{place}/{str(key).strip('/')}")


def _matches(pattern: str, node: str) -> bool:
    """Whether a name in a parameter file is for a node: * stands for a part, ** for any number."""
    parts = [
        "(/[^/]+)*" if part == "**" else "/" + re.escape(part).replace(r"\*", "[^/]*")
        for part in pattern.strip("/").split("/")
    ]
    return re.fullmatch("".join(parts), node) is not None
