"""Pages of libraries that are not in use leave the process, and come back unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sam2vss_ros import libraries

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")

PROGRAM = """
import ctypes, re
from pathlib import Path
import torch
from sam2vss_ros import libraries

def code():
    '''Start, end and resident kB of the code of torch's Python library.'''
    text = Path("/proc/self/smaps").read_text()
    found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) r-xp .*libtorch_python.*$", text, re.MULTILINE)
    held = re.compile(r"Rss: +([0-9]+)").search(text, found.end())
    return int(found[1], 16), int(found[2], 16), int(held[1])

start, end, _ = code()
before = ctypes.string_at(start, end - start)
full = code()[2]
libraries.forget()
left = code()[2]
assert torch.ones(3, 4).matmul(torch.ones(4, 2)).tolist() == [[4.0, 4.0]] * 3
assert ctypes.string_at(start, end - start) == before
import cv2  # a library that is loaded afterwards
assert cv2.countNonZero(torch.eye(4).numpy()) == 4
print(full, left)
"""


def test_pages_that_nothing_reads_are_let_go() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    full, left = map(int, done.stdout.split())
    assert full > 4000 and left < full / 2


HEAD = "7f0000000000-7f0000200000 {} 00000000 fe:00 {}   /usr/lib/libx.so\n"
HELD = "Size: 2048 kB\nRss: {} kB\nAnonymous: {} kB\nAnonHugePages: 0 kB\nSwap: {} kB\n"


@pytest.mark.parametrize(
    "rights, file, rss, anonymous, swapped, dropped",
    [
        ("r-xp", 7, 2048, 0, 0, True),
        ("r--p", 7, 2048, 0, 0, True),
        ("rw-p", 7, 2048, 0, 0, False),
        ("r--p", 0, 2048, 0, 0, False),  # memory of no file
        ("r--p", 7, 2048, 4, 0, False),  # relocated
        ("r--p", 7, 2048, 0, 4, False),  # relocated, and swapped out by now
        ("r--p", 7, 64, 0, 0, False),
    ],
)
def test_only_what_can_be_read_again(
    rights: str, file: int, rss: int, anonymous: int, swapped: int, dropped: bool
) -> None:
    other = HEAD.format("r-xp", 0) + HELD.format(4, 0, 0)
    mapping = HEAD.format(rights, file) + HELD.format(rss, anonymous, swapped)
    found = list(libraries._unwritten(other + mapping + other))
    assert found == ([(0x7F0000000000, 0x7F0000200000)] if dropped else [])
