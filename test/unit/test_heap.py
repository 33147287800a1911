"""Memory that is freed goes back to the system, also of threads that have ended."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BEGIN = """
import sys, threading
import numpy as np
from sam2vss_ros import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

def run(*targets):
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

kept = []
heap.bound()
before = resident()
"""

HOLES = """
def fill():
    # Pieces of 100 kB, of which every fiftieth stays: none is a mapping of its own.
    pieces = [np.ones(100_000, np.uint8) for _ in range(3000)]
    kept.append(pieces[::50])

run(fill, fill)
full = resident()
heap.give_back()
print(before, full, resident())
"""

ENDS = """
def work():
    kept.append(np.ones(5_000_000, np.uint8))
    np.ones(40_000_000, np.uint8)  # behind it: the end of this thread's heap

heap.reuse()
run(work)
full = resident()
with heap.giving_back():
    kept.clear()
print(before, full, resident())
"""

OWN_END = """
def work():
    kept.append(np.ones(5_000_000, np.uint8))
    np.ones(40_000_000, np.uint8)
    global full
    full = resident()
    heap.give_back()

heap.reuse()
run(work)
print(before, full - 5, resident() - 5)
"""


@pytest.mark.parametrize(
    ("program", "freed", "left"), [(HOLES, 100, 40), (ENDS, 40, 25), (OWN_END, 35, 23)]
)
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_goes_back(program: str, freed: float, left: float) -> None:
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, full, after = map(float, done.stdout.split())
    assert full - before > freed, "nothing was kept that could go back"
    assert after - before < left
