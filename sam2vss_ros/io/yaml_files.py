"""YAML files that anybody may have written: bounded in size, in depth and in what aliases make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sam2vss_ros.errors import one_line

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_VALUES = 50_000
"""Keys and values of a file, each alias counted as what it stands for."""

MAX_SCALAR = 10_000
"""Characters of one key or value."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain data.

    Raises ValueError saying in one line what is wrong with it, and where: no YAML, a key used
    twice, larger or deeper than anything that is meant for people; OSError where it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MB")
    try:
        return yaml.load(content, _BoundedLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = str(error.problem).replace("character '\\t'", "a tab")
        raise ValueError(one_line(f"{place}{problem}")) from error
    except yaml.YAMLError as error:  # characters that no YAML may have
        raise ValueError(one_line(error)) from error
    except (ValueError, ArithmeticError, TypeError, AttributeError, LookupError) as error:
        # What PyYAML raises for dates and numbers that are none.
        raise ValueError(f"a value is not what it seems to be: {one_line(error)}") from error


class _BoundedLoader(yaml.SafeLoader):
    """Refuses what is too much while it reads, before anything is made of it."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._size: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node; refused where it is too deep, or one too many."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            # Within itself an anchor has no size yet.
            size = self._size.get(event.anchor, MAX_VALUES if event.anchor in self.anchors else 0)
            self._count(event, size)
            return super().compose_node(parent, index)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise _refusal(event, f"a value of more than {MAX_SCALAR} characters")
        if self._depth == MAX_DEPTH:
            raise _refusal(event, f"more than {MAX_DEPTH} levels, one in another")
        before = self._values
        self._count(event, 1)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._size[event.anchor] = self._values - before
        return node

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """A mapping; refused where it has a key twice, of which YAML would take the last."""
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if (key.tag, key.value) in seen:
                        raise _refusal(key, f"the key {key.value!r} is there twice")
                    seen.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise _refusal(event, f"more than {MAX_VALUES} values, aliases counted as they stand")


def _refusal(place: yaml.Event | yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
