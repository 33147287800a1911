"""The memory that the C library keeps for itself when arrays are freed."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Give freed memory back to the system, where the C library can (glibc's malloc_trim).

    Each thread has a heap of its own, of which only the end is given back by itself: one large
    frame, or a set of networks, would be kept for good. Takes some milliseconds.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    """None where the C library is another one, such as musl."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows names its libraries
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim  # type: ignore[no-any-return]
