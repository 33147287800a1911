"""Full disks, outputs that nobody reads, signals: nothing is lost, and what is left is whole."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_processes import (
    CPU,
    IMAGES,
    assert_one_line,
    assert_whole_run,
    catches,
    evaluation,
    limited,
    start,
    write_data,
)

from cli_streams import run
from sam2vss_ros.commands.signals import AGAIN, Stopped, stopping
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, SemanticFrame


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


# Full disks.


def test_figures_are_printed_though_nothing_can_be_written(data: Path, tmp_path: Path) -> None:
    report, figures = tmp_path / "report", tmp_path / "x.json"
    assert run(*evaluation(data, "--report", report, "--json", figures)) == 0
    before = figures.read_bytes()
    left = {"frames.csv"}
    for size in (5_000, 20_000):  # the JSON does not fit, the page does not
        process = start(
            *evaluation(data, "--report", report, "--json", figures), preexec_fn=limited(size)
        )
        printed, errors = process.communicate()
        assert process.returncode == 2
        assert "mIoU" in printed and "Building" in printed
        assert_one_line(errors, "error", "File too large")
        assert (figures.read_bytes() == before) == (size == 5_000)
        assert json.loads(figures.read_bytes())["frames_scored"] == 4
        assert set(os.listdir(report)) == left
        with (report / "frames.csv").open() as rows:
            assert len({len(row) for row in csv.reader(rows)}) == 1
        left.add("report.json")
    assert set(os.listdir(tmp_path)) == {"report", "x.json"}


def test_a_run_on_a_full_disk_leaves_whole_files(data: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 255, (480, 640, 3), np.uint8)
        cv2.imwrite(str(images / f"{i:03d}.png"), noise)
    process = start("run", images, "--out", tmp_path / "out", *CPU, preexec_fn=limited(1_200_000))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert_one_line(errors, "error", "No space left on device", str(tmp_path / "out"))
    assert 0 < assert_whole_run(tmp_path / "out", (480, 640)) < 40


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_on_a_full_disk_leaves_nothing(storage: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bag"
    command = ["bag", "make", "--images", data / "many", "--out", out, "--storage", storage]
    process = start(*command, preexec_fn=limited(300_000))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert_one_line(errors, "error", f"{out} cannot be written")
    assert os.listdir(tmp_path) == []


# Nobody reads, and nothing can be printed.


def test_output_that_cannot_be_printed() -> None:
    for command in (("config", "yaml"), ("config", "table"), ("models",)):
        with open("/dev/full", "w") as full:
            process = start(*command, stdout=full)
            _, errors = process.communicate()
        assert process.returncode == 2, command
        assert_one_line(errors, "error: the output: No space left on device")


def test_nobody_reads_the_output(data: Path, tmp_path: Path) -> None:
    for command in (["config", "yaml"], evaluation(data, "--json", tmp_path / "x.json")):
        reading, writing = os.pipe()
        os.close(reading)
        process = start(*command, stdout=writing)
        os.close(writing)
        _, errors = process.communicate()
        assert process.returncode == 141
        assert "error" not in errors.lower() and "Broken" not in errors
    assert json.loads((tmp_path / "x.json").read_text())["frames_scored"] == 4


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_whole_files(number: int, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("run", data / "many", "--out", out, "--device", "cpu", "--max-objects", 2)
    end = time.monotonic() + 60
    # Labels are written first: with the fourth the third frame is whole.
    while len(list(out.glob(".unfinished-*/labels/*.png"))) < 4:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    process.send_signal(number)  # twice is once
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert_one_line(errors, "sam2vss: interrupted")
    assert 3 <= assert_whole_run(out) < IMAGES


def test_an_interrupted_evaluation_does_not_mix_reports(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, seen = VssPipeline.process, 0

    def interrupted(pipeline: VssPipeline, frame: Frame) -> SemanticFrame:
        nonlocal seen
        seen += 1
        if seen > 2:
            signal.raise_signal(signal.SIGTERM)
        return process(pipeline, frame)

    assert run(*evaluation(data, "--report", tmp_path)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(VssPipeline, "process", interrupted)
        assert run(*evaluation(data, "--report", tmp_path)) == 143
    assert os.listdir(tmp_path) == ["frames.csv"]
    assert len((tmp_path / "frames.csv").read_text().splitlines()) == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert run(*evaluation(data, "--report", tmp_path)) == 0


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.7, 1.2, 1.7, 2.7])
def test_a_signal_while_modules_are_imported(seconds: float, data: Path, tmp_path: Path) -> None:
    process = start("run", data / "many", "--out", tmp_path / "out", "--device", "cpu")
    # Before the command's first line Python's own rules hold, under which SIGTERM is not caught.
    while process.poll() is None and not catches(process.pid, signal.SIGTERM):
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert_one_line(errors, "sam2vss: interrupted")


def test_signals_that_are_to_be_ignored(tmp_path: Path) -> None:
    """As with nohup."""
    ignore = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = start("models", preexec_fn=ignore)
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0


def test_a_signal_that_was_to_come_again_does_not_after_the_end() -> None:
    """Its exception may have ended the command, though C code has printed it, too."""
    before = signal.getsignal(signal.SIGINT)
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        with stopping() as signals:
            with pytest.raises(Stopped) as dropped:
                signal.raise_signal(signal.SIGINT)
            assert signals.lost(dropped.value)
        time.sleep(3 * AGAIN)
        assert signals.number == signal.SIGINT and not came
    finally:
        signal.signal(signal.SIGINT, before)
