"""What goes wrong in ways that a user can mend; every message says what and how.

They live apart from what raises them, so that a command can name them without loading torch.
`one_line` is what a message goes through where it leaves the program, and what others have written
where it enters a message.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LONGEST_QUOTE = 300
"""Characters of what somebody else wrote that a message may hold: names, values, reasons."""

LONGEST_VALUE = 80
"""Characters of a name or a value that a message repeats."""

LONGEST_MESSAGE = 900
"""Characters of a whole message."""

LONGEST_NAME = 100
"""Characters of the name of a class: it stands in messages, tables and legends."""


def one_line(text: object, longest: int = LONGEST_QUOTE) -> str:
    """A text of unknown origin in one line: white space joined, what is not printable escaped.

    Of one that is longer than `longest` characters the middle is left out: what is named stands at
    the beginning, what to do at the end.
    """
    # Only what can be shown is looked at: the text may have any length.
    whole = str(text)
    if len(whole) > 2 * longest:
        whole = f"{whole[:longest]} ... {whole[-longest:]}"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(whole.split()))
    if len(line) <= longest:
        return line
    begin = (longest - 5) * 2 // 3
    return f"{line[:begin]} ... {line[begin + 5 - longest :]}"


def brief(text: object) -> str:
    """A name or a value that somebody wrote, as a part of a line."""
    return one_line(text, LONGEST_VALUE)


def reason_of(error: BaseException) -> str:
    """Why a library failed, in one line: the last one that it says, without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    # TorchScript ends in the name of the error and its text, as Python does.
    name, colon, text = last.partition(": ")
    if colon and name.rpartition(".")[2].endswith(("Error", "Exception")):
        last = text
    return one_line(last or type(error).__name__)


def with_traceback(error: BaseException) -> str:
    """Where an error that nobody foresaw was raised, and what it says in one line."""
    places = "".join(traceback.format_tb(error.__traceback__))
    said = one_line(f"{type(error).__name__}: {error}", LONGEST_MESSAGE)
    return f"Traceback (most recent call last):\n{places}{said}"


class InputError(ValueError):
    """What the user gave cannot be used; the message names the file or option and the reason."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


class ImageError(ValueError):
    """A message that holds no usable image. `reason` is short and the same for all of its kind,
    `detail` is of this one."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(one_line(f"{reason}: {detail}", LONGEST_MESSAGE))
        self.reason, self.detail = reason, detail


class MissingLabelsError(ValueError):
    """A frame came without the labels that stand for the network's prediction."""


class NetworkError(RuntimeError):
    """A network of somebody else failed on a frame; the message says why."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


class ModelUnavailableError(RuntimeError):
    """A model's weights are not at hand or are not its own; the message says what to do."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


def few(values: Iterable[object], most: int = 4) -> str:
    """Values for a message, the first `most` of them and how many there are besides."""
    words = [str(value) for value in values]
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of libraries that only an extra of setup.py installs.

    Raises InputError where one cannot be imported; it names the library and the extra.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(f'{error}; it comes with pip install "sam2vss_ros[{extra}]"') from error
