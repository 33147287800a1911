"""The command `sam2vss` as a process, and what it must leave behind."""

from __future__ import annotations

import functools
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from cli_streams import HEIGHT, WIDTH, street, write_folders
from sam2vss_ros.io.image_folders import list_images
from sam2vss_ros.io.label_files import read_labels

CPU = ("--device", "cpu", "--threads", "1", "--mode", "network")
IMAGES = 600
"""So many that nobody is through with them before a busy machine gets round to a signal."""


def write_data(root: Path) -> Path:
    """A stream of `a` with labels of one class, and one of IMAGES images that all differ."""
    write_folders(root)
    (root / "labels").mkdir()
    for file in (root / "a").iterdir():
        cv2.imwrite(str(root / "labels" / file.name), street(0, 200)[..., 0] // 100)
    (root / "many").mkdir()
    for i in range(IMAGES):
        noise = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(root / "many" / f"{i:03d}.png"), noise)
    return root


def evaluation(data: Path, *more: object) -> list[object]:
    labelled = ["--images", data / "a", "--labels", data / "labels", "--classes", "camvid"]
    return ["evaluate", *labelled, *CPU, *more]


def start(
    *arguments: object,
    preexec_fn: Callable[[], object] = lambda: None,
    stdout: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """The command, as a terminal starts it: what starts the tests may ignore signals."""

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        preexec_fn()

    return subprocess.Popen(
        [sys.executable, "-m", "sam2vss_ros.cli", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def catches(pid: int, number: int) -> bool:
    """Whether a process has its own way with a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def limited(size: int) -> Callable[[], None]:
    """What gives a process files of so many bytes at most, as a full disk does."""
    return functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


def assert_one_line(errors: str, *words: str) -> None:
    """Besides progress bars there is one line, with these words."""
    lines = [line for line in errors.splitlines() if line and "%|" not in line]
    assert len(lines) == 1 and all(word in lines[0] for word in words), errors


def frames_of(video: Path) -> int:
    capture, count = cv2.VideoCapture(str(video)), 0
    while capture.read()[0]:
        count += 1
    return count


def assert_whole_run(out: Path, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> int:
    """All that lies in the results of a run can be read, and is of the same frames; how many."""
    lines = [json.loads(line) for line in (out / "objects.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert frames_of(out / "overlay.mp4") in (len(lines), len(lines) + 1)
    labels = list_images(out / "labels")
    assert len(lines) <= len(labels) <= len(lines) + 1
    assert all(read_labels(file).shape == shape for file in labels)
    assert not list(out.glob(".unfinished*"))
    return len(lines)
