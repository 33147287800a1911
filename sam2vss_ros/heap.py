"""The memory that the C library keeps for itself when arrays are freed.

glibc gives every thread a heap of its own and returns only the end of each to the system: a large
frame, or networks that were unloaded, would be kept in pieces for good. Threads that look at images
share one heap: what one is done with serves another.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager

KEPT = 1 << 26
"""Bytes free at the end of a heap that stay with the process, and what is larger than this is a
mapping of its own. Pages given back after every array of a frame would have to be cleared again for
the next one, which takes longer than to fill them."""

LOOKED_AT = 1 << 17
"""Bytes of an array at which, when it is freed, glibc looks whether its heap's end may go."""

M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -8, -3, -1  # of malloc.h


def bound() -> None:
    """Let the threads that begin from now on share one heap; nothing where not glibc."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 1)


def reuse() -> None:
    """Let arrays be made of what others left, in all threads, up to KEPT bytes; as `bound`."""
    bound()
    library = _glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


@contextmanager
def giving_back() -> Iterator[None]:
    """Give what is freed within, and what is free in all heaps, to the system; as `bound`.

    At its end `malloc_trim` reaches all that is free, but for the ends of heaps that threads had
    before `bound`. Those go when an array of such a heap is freed within, or when its thread calls
    `give_back`. Takes milliseconds.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_TRIM_THRESHOLD, 0)
    try:
        yield
    finally:
        library.free(library.malloc(LOOKED_AT))
        library.malloc_trim(0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Give what is free in all heaps to the system, with the end of this thread's; as `bound`."""
    with giving_back():
        pass


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, None where it is another one."""
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes = [ctypes.c_size_t]
        library.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
        library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    return library
