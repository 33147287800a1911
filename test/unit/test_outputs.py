"""Nothing is lost: bad targets are told before the work, and what is written is whole."""

from __future__ import annotations

import csv
import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cli_streams import HEIGHT, WIDTH, run, street, write_folders
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.outputs import LineFile, check_file, staged, write_bytes
from sam2vss_ros.io.readers import list_images, read_labels
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, SemanticFrame

CPU = ("--device", "cpu", "--threads", "1", "--mode", "network")
IMAGES = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream of `a` with labels of one class, and one of IMAGES images that all differ."""
    root = tmp_path_factory.mktemp("data")
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


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sam2vss_ros.cli", *map(str, arguments)]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(command, **given)  # type: ignore[call-overload,no-any-return]


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


# Before the work.


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(Perception, "load", work)


JSON = {
    "/dev/full": "No space left on device",
    "{folder}": "is a folder",
    "{folder}/no/x.json": "the folder of .* does not exist",
    "{file}/x.json": "Not a directory",
    "/proc/x.json": "cannot be written: ",
    "{folder}/" + 300 * "x": "File name too long",
    "{file}": "not from an earlier run",
}
FOLDERS = {
    "{file}": "is a file",
    "{file}/below": "is a file",
    "/proc/x": "cannot be written: ",
    "/dev/full": "is a file",
}


@pytest.mark.parametrize("target", JSON)
@pytest.mark.parametrize("command", ["evaluate", "metrics", "bench"])
def test_a_file_that_cannot_be(
    command: str,
    target: str,
    data: Path,
    tmp_path: Path,
    no_work: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("precious")
    path = target.format(folder=tmp_path, file=tmp_path / "file")
    labels = data / "labels"
    commands: dict[str, list[object]] = {
        "evaluate": evaluation(data),
        "metrics": ["metrics", "--labels", labels, "--predictions", labels, "--classes", "camvid"],
        "bench": ["bench", "identity", "--clips", 1],
    }
    assert run(*commands[command], "--json", path) == 2

    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(f"error: json: .*{JSON[target]}", error), error
    assert (tmp_path / "file").read_text() == "precious"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("target", FOLDERS)
@pytest.mark.parametrize("option", ["run --out", "evaluate --report", "make --out", "label --out"])
def test_a_folder_that_cannot_be(
    option: str,
    target: str,
    data: Path,
    tmp_path: Path,
    no_work: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("precious")
    path = target.format(file=tmp_path / "file")
    commands: dict[str, list[object]] = {
        "run --out": ["run", data / "a", "--out"],
        "evaluate --report": evaluation(data, "--report"),
        "make --out": ["bag", "make", "--images", data / "a", "--out"],
        "label --out": ["bag", "label", data / "a", "--out"],
    }
    assert run(*commands[option], path) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    exists = option.startswith(("make", "label")) and target in ("{file}", "/dev/full")
    assert ("exists already" if exists else FOLDERS[target]) in error
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("kind", ["semantics", "outline", "nano"])
def test_weights_that_cannot_be_written(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_text("precious")
    for target, reason in (
        (Path("/dev/full"), "No space left"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "x", "the folder of .* does not exist"),
        (mine, "not from an earlier run"),
    ):
        assert run("train", kind, "--data", data, "--out", target) == 2
        assert re.search(f"error: out: .*{reason}", capsys.readouterr().err)
    assert mine.read_text() == "precious"


def test_devices_and_pipes_may_be_written(tmp_path: Path) -> None:
    check_file("json", Path("/dev/null"))
    check_file("json", Path("/dev/stdout"))
    done = start("config", "yaml", stdout=subprocess.PIPE).communicate()[0]
    script = (
        "from pathlib import Path; from sam2vss_ros.io.outputs import check_file, write_bytes\n"
        "print('before', flush=True); check_file('json', Path('/dev/stdout'))\n"
        "write_bytes(Path('/dev/stdout'), b'{}')\n"
    )
    with (tmp_path / "out").open("w") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, check=True)
    assert (tmp_path / "out").read_text() == "before\n{}"
    assert done.startswith("# All parameters")


# What is somebody else's.


def test_what_is_no_figures_of_ours_stays(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels = tmp_path / "x.json", data / "labels"
    command = ["metrics", "--labels", labels, "--predictions", labels, "--classes", "camvid"]
    for content in ('{"images": []}', "[1]", "text", "[" * 100_000, "\xff"):
        path.write_text(content, encoding="latin-1")
        assert run(*command, "--json", path) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert path.read_text(encoding="latin-1") == content
    assert run(*command, "--json", path, "--overwrite") == 0
    first = json.loads(path.read_text())
    assert run(*command, "--json", path) == 0
    assert json.loads(path.read_text()) == first
    path.write_text("")
    assert run(*command, "--json", path) == 0


def test_what_is_no_report_of_ours_stays(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("my page")
    (tmp_path / "notes.txt").write_text("mine")
    assert run(*evaluation(data, "--report", tmp_path)) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "my page"
    assert run(*evaluation(data, "--report", tmp_path, "--overwrite")) == 0
    assert run(*evaluation(data, "--report", tmp_path)) == 0
    assert set(os.listdir(tmp_path)) == {"index.html", "report.json", "frames.csv", "notes.txt"}


@pytest.mark.parametrize("name", ["labels/mine.png", "overlay.mp4", "objects.jsonl"])
def test_what_is_no_run_of_ours_stays(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")
    assert run("run", data / "a", "--out", tmp_path, *CPU) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "precious"
    assert run("run", data / "a", "--out", tmp_path, *CPU, "--overwrite") == 0
    assert assert_whole_run(tmp_path) == 4
    (tmp_path / "labels" / "corrected_by_hand.png").write_text("precious")
    assert run("run", data / "a", "--out", tmp_path, *CPU) == 2


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
    for i in range(IMAGES):
        noise = np.random.default_rng(i).integers(0, 255, (480, 640, 3), np.uint8)
        cv2.imwrite(str(images / f"{i:03d}.png"), noise)
    process = start("run", images, "--out", tmp_path / "out", *CPU, preexec_fn=limited(1_200_000))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert_one_line(errors, "error", "No space left on device", str(tmp_path / "out"))
    assert 0 < assert_whole_run(tmp_path / "out", (480, 640)) < IMAGES


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_on_a_full_disk_leaves_nothing(storage: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bag"
    command = ["bag", "make", "--images", data / "many", "--out", out, "--storage", storage]
    process = start(*command, preexec_fn=limited(300_000))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert_one_line(errors, "error", f"{out} cannot be written")
    assert os.listdir(tmp_path) == []


def test_lines_are_whole(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sam2vss_ros.io.outputs import *\n"
        "with LineFile(Path(sys.argv[1])) as file:\n"
        "    try:\n"
        "        for _ in range(99): file.write('0123456789\\n')\n"
        "    except OSError as error: print(error.filename, error.strerror)\n"
        "Path(sys.argv[2]).write_bytes(b'old')\n"
        "try: write_bytes(Path(sys.argv[2]), bytes(200))\n"
        "except OSError as error: print(error.filename, error.strerror)\n"
    )
    lines, whole = tmp_path / "lines", tmp_path / "whole"
    command = [sys.executable, "-c", script, str(lines), str(whole)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=limited(100)
    )
    assert lines.read_text() == 9 * "0123456789\n"
    assert whole.read_bytes() == b"old"
    assert done.stdout.splitlines()[0].startswith(f"{lines} ")
    assert done.stdout.splitlines()[1] == f"{whole} File too large"
    assert sorted(os.listdir(tmp_path)) == ["lines", "whole"]


def test_results_take_their_place_together(tmp_path: Path) -> None:
    names = ("a", "b")
    for name in (*names, "mine"):
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyError), staged(tmp_path, names) as stage:
        (stage.folder / "a").write_text("new")
        raise KeyError
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "old"
    with pytest.raises(KeyError), staged(tmp_path, names) as stage:
        (stage.folder / "a").write_text("new")
        stage.keep = True
        raise KeyError
    assert (tmp_path / "a").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a", "mine"]
    with pytest.raises(InputError, match="No space"), staged(tmp_path / "x", names) as stage:
        raise OSError(28, "No space left on device", str(stage.folder / "a"))
    assert not (tmp_path / "x").exists()


def test_a_file_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    write_bytes(real, b"1")
    assert real.stat().st_mode & 0o777 == 0o666 & ~_umask()
    real.chmod(0o640)
    link.symlink_to(real)
    write_bytes(link, b"2")
    assert link.is_symlink() and real.read_bytes() == b"2"
    assert real.stat().st_mode & 0o777 == 0o640
    with LineFile(link, append=True) as lines:
        lines.write("3\n")
    assert real.read_text() == "23\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    while len(list(out.glob(".unfinished-*/labels/*.png"))) < 3:
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


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
def test_a_signal_while_modules_are_imported(seconds: float, data: Path, tmp_path: Path) -> None:
    process = start("run", data / "many", "--out", tmp_path / "out", "--device", "cpu")
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
