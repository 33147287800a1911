"""Pages of shared libraries that nothing has read since they were loaded.

To load a library the linker reads its tables of symbols, and the library registers what it has:
three quarters of what a process holds of torch are never looked at again. The system would take
these pages when it needs memory; until then they count as this process's.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LEAST = 1024
"""Kilobytes of a mapping in memory from which on it is worth the call. A library that another
thread is just loading, whose mappings change yet, has less."""

MADV_DONTNEED = 4  # of sys/mman.h

MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ ([0-9]+)", re.MULTILINE)
AMOUNT = re.compile(r"(Rss|Anonymous|Swap): +([0-9]+) kB")


def forget() -> None:
    """Let go of the pages of files that this process has mapped and never writes.

    They stay in the system's cache: what is used comes back on its next use, within milliseconds
    for all of torch. Nothing where there is no /proc/self/smaps: not Linux.
    """
    with suppress(FileNotFoundError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for start, end in list(_unwritten(Path("/proc/self/smaps").read_text())):
            madvise(start, end - start, MADV_DONTNEED)


def _unwritten(smaps: str) -> Iterator[tuple[int, int]]:
    """Addresses of the mappings of files that hold nothing but what the file holds."""
    heads = list(MAPPING.finditer(smaps))
    ends = [*(head.start() for head in heads[1:]), len(smaps)]
    for head, end in zip(heads, ends, strict=True):
        first, last, rights, file = head.groups()
        held = {name: int(kb) for name, kb in AMOUNT.findall(smaps, head.end(), end)}
        # What relocation wrote is no more in the file, even where it is read-only by now.
        written = "w" in rights or held["Anonymous"] or held["Swap"]
        if file != "0" and not written and held["Rss"] >= LEAST:
            yield int(first, 16), int(last, 16)
