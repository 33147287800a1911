"""What this process holds once all has been given back that can be."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2vss_ros.bench.memory import resident_bytes

MB = 1_000_000


def settled_bytes() -> int:
    """Bytes of its own, after a collection of garbage and of what malloc keeps (glibc, Linux).

    Pages of libraries do not count: they leave when networks are loaded, and come back when used.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (own,) = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(own) * 1024


@contextmanager
def memory_back_to_its_level(megabytes: float) -> Iterator[None]:
    """Fail where the block leaves more than so many MB behind."""
    before = settled_bytes()
    yield
    grown = (settled_bytes() - before) / MB
    assert grown < megabytes, f"{grown:.0f} MB more than before are held, of {before / MB:.0f} MB"


@contextmanager
def memory_peak_below(megabytes: float) -> Iterator[None]:
    """Fail where more than so many MB are taken at any time in the block (Linux).

    Some files name sizes that would take gigabytes.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = resident_bytes()
    yield
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    taken = (int(peak) * 1024 - before) / MB
    assert taken < megabytes, f"{taken:.0f} MB more than before were held for a while"
