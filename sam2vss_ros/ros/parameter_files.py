"""Parameter files that name no node of ours: rcl reads them, and takes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sam2vss_ros.io.yaml_files import read_yaml

PARAMETERS = "ros__parameters"


def files_without_us(arguments: Sequence[str], node: str) -> Iterator[tuple[str, list[str]]]:
    """The parameter files on a command line that have parameters for other nodes alone, and the
    names of these.

    node: the full name of ours. rcl has read the files: they are there, and are YAML without
    aliases.
    """
    for flag, path in pairwise(arguments):
        if flag != "--params-file":
            continue
        try:
            names = list(_nodes(read_yaml(Path(path))))
        except ValueError:
            continue  # what rcl alone can read may be for us
        if names and not any(_matches(name, node) for name in names):
            yield path, names


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
