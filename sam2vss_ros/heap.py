"""The memory that the C library keeps for itself when arrays are freed.

glibc gives every thread a heap of its own and returns only the end of each to the system: a large
frame, or networks that were unloaded, would be kept in pieces for good.
"""

from __future__ import annotations

import ctypes
import functools

MOST_HEAPS = 2
KEPT = 1 << 26
"""Bytes free at the end of a heap that stay with the process, and what is larger than this is a
mapping of its own. Pages given back after every array of a frame would have to be cleared again for
the next one, which takes longer than to fill them."""

M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # of malloc.h


def bound() -> None:
    """Let the threads that begin from now on share MOST_HEAPS heaps; nothing where not glibc."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, MOST_HEAPS)


def reuse() -> None:
    """Let arrays be made of what others left, up to KEPT bytes; as `bound`."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Give what is free in all heaps to the system, which takes milliseconds; as `bound`."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, None where it is another one."""
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    return library
