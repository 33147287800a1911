"""What goes wrong in ways that a user can mend; every message says what and how.

They live apart from what raises them, so that a command can name them without loading torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """What the user gave cannot be used; the message names the file or option and the reason."""


class ImageError(ValueError):
    """A message that holds no usable image. `reason` is short and the same for all of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class MissingLabelsError(ValueError):
    """A frame came without the labels that stand for the network's prediction."""


class ModelUnavailableError(RuntimeError):
    """A model's weights are not at hand or are not its own; the message says what to do."""


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
