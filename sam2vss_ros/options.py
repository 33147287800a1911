"""What an option is, and how a value that somebody gives is checked against it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sam2vss_ros.errors import brief
from sam2vss_ros.spelling import nearest

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """What is known of one option: its meaning and its allowed values.

    `choices` lists the allowed strings, beside the paths of files with one of the suffixes `files`;
    `low` and `high` bound a number (both included).
    `live` options may change while the pipeline runs; the others are read when it is built.
    `heading` begins a new part of the parameter file, up to the next option that has one.
    `verify` raises ValueError for lists of texts that say nothing; lists without it are of names.
    """

    description: str
    choices: Sequence[str] = ()
    files: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    live: bool = False
    heading: str = ""
    verify: Callable[[tuple[str, ...]], object] | None = None

    @property
    def allowed(self) -> str:
        """The choices in words."""
        files = (f"a {' or '.join(self.files)} file",) if self.files else ()
        return ", ".join((*self.choices, *files))

    @property
    def meaning(self) -> str:
        """The description, followed by the choices where it does not name them all itself."""
        if all(re.search(rf"\b{re.escape(c)}\b", self.description) for c in self.choices):
            return self.description
        return f"{self.description}. One of {self.allowed}"


def option(default: Value, description: str, **others: Any) -> Any:
    """A dataclass field that carries its `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(description, **others)})


def options_of(config: type) -> dict[str, tuple[Value, Option]]:
    """Name -> (default, Option) of a dataclass made of `option` fields, in order."""
    return {
        f.name: (cast(Value, f.default), f.metadata["option"]) for f in dataclasses.fields(config)
    }


YAML_WORDS = {False: ("off", "no", "false"), True: ("on", "yes", "true")}
"""What YAML reads as a bool, although a choice may be meant."""


def check(name: str, value: object, default: Value, limits: Option) -> Value:
    """Return `value`, converted to the type of `default`.

    Raises TypeError or ValueError, naming the option and what it allows.
    """
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(default) is tuple:
        value = _texts(name, value) if limits.verify else _names(name, value)
        if limits.verify:
            limits.verify(value)
    if type(value) is bool:
        value = next((word for word in YAML_WORDS[value] if word in limits.choices), value)
    if type(value) is not type(default):
        shown, given, kind = brief(repr(value)), type(value).__name__, type(default).__name__
        hint = _what_helps(value, default, limits)
        raise TypeError(f"{name}: {shown} is a {given}, it takes a {kind}{hint}")
    is_file = isinstance(value, str) and value.endswith(tuple(limits.files))
    if limits.choices and value not in limits.choices and not is_file:
        raise ValueError(f"{name}: {brief(repr(value))} is not one of {limits.allowed}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = limits.low, limits.high
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            bounds = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
            raise ValueError(f"{name}: {value} is outside {bounds}")
    return value  # type: ignore[return-value]


def read_as(default: Value) -> Callable[[str], Any]:
    """What makes a value like `default` of a word of a command line, or raises ValueError."""
    if isinstance(default, tuple):
        return several
    return boolean if isinstance(default, bool) else type(default)


def several(text: str) -> tuple[str, ...]:
    """The entries of a list in a word: `a,b`, or where entries have commas themselves `a=b,c;d`."""
    parts = [part.strip() for part in text.split(";" if ";" in text else ",")]
    return tuple(parts[:-1] if len(parts) > 1 and not parts[-1] else parts) if text else ()


def boolean(text: str) -> bool:
    """Of true and false as YAML writes them. Raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{brief(text)} is neither true nor false")
    return text.lower() == "true"


def _what_helps(value: object, default: Value, limits: Option) -> str:
    """What to write instead of a value of another type than the default's."""
    said = f": one of {limits.allowed}" if limits.choices else ""
    if isinstance(value, bool) and not isinstance(default, bool):
        said += f" (YAML reads {', '.join(YAML_WORDS[value])} as {value}"
        said += "; put a word in quotes)" if isinstance(default, str) else ")"
    elif isinstance(default, str) and isinstance(value, int | float):
        said += " (put it in quotes)" if not limits.choices else ""
    return said


def _list(name: str, value: object, what: str) -> Sequence[object]:
    """The value, if it is a list. Raises TypeError."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        given = type(value).__name__
        raise TypeError(f"{name}: {brief(repr(value))} is a {given}, it takes a list of {what}")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    """A list of texts. Raises TypeError."""
    for item in (items := _list(name, value, "texts")):
        if not isinstance(item, str):
            given = type(item).__name__
            raise TypeError(
                f"{name}: {brief(repr(item))} is a {given}, it takes texts (put it in quotes)"
            )
    return tuple(cast(Sequence[str], items))


def _names(name: str, value: object) -> tuple[str, ...]:
    """A list of names, each of which can be a part of a ROS name, and none of which is there twice.

    Raises TypeError or ValueError.
    """
    value = cast(Sequence[str], _list(name, value, "names"))
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", item):
            raise ValueError(
                f"{name}: {brief(repr(item))} is no name: letters, digits and _, a letter first"
            )
    if len(set(value)) < len(value):
        raise ValueError(f"{name}: {brief(', '.join(value))}: each name counts once")
    return tuple(value)


def what_is_meant(name: str, known: Collection[str]) -> str:
    """What to say to somebody who gives an option that does not exist."""
    meant = nearest(name, known)
    return f"do you mean {meant}?" if meant else "`sam2vss config table` lists all there are"


class Checked:
    """Base of configuration dataclasses: checks every field when an instance is made."""

    def __post_init__(self) -> None:
        for name, (default, limits) in options_of(type(self)).items():
            object.__setattr__(self, name, check(name, getattr(self, name), default, limits))

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Any:
        """Build from a mapping. Raises ValueError for a name that does not exist."""
        known = options_of(cls)
        for name in values:
            if name not in known:
                raise ValueError(f"{brief(name)}: no such option; {what_is_meant(name, known)}")
        return cls(**values)
