"""Targets are looked at before the work, what is somebody else's stays, and files are whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_processes import CPU, assert_whole_run, evaluation, limited, start, write_data

from cli_streams import run
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.outputs import LineFile, check_file, staged, write_bytes
from sam2vss_ros.perception import Perception


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


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


@pytest.mark.parametrize("kind", ["semantics", "keys", "outline"])
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
    done = start("config", "yaml").communicate()[0]
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


# Files and folders.


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
