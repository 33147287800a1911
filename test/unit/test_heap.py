"""Memory that is freed goes back to the system, also of threads that have ended."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import numpy as np
from sam2vss_ros import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

def fill():
    # Pieces of 100 kB, of which every fiftieth stays: none is a mapping of its own.
    pieces = [np.ones(100_000, np.uint8) for _ in range(3000)]
    kept.append(pieces[::50])

kept = []
heap.bound()
before = resident()
threads = [threading.Thread(target=fill) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
full = resident()
heap.give_back()
print(before, full, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, full, after = map(float, done.stdout.split())
    assert full - before > 100, "nothing was kept that could go back"
    assert after - before < 40
