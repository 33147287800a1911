"""Files and folders that are written: looked at before the work, and never left half written."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.errors import InputError

STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
"""Names of files that are open already, and are written to as they are."""

UNFINISHED = ".unfinished-"
"""How the names of what is being written begin."""


def check_file(option: str, path: Path) -> None:
    """Raise InputError, which names the option, where `path` cannot be written as a file."""
    with _refusing(option, path):
        if path.is_dir():
            raise InputError(f"{option}: {path} is a folder; give the name of a file")
        if _is_stream(path):
            _try_stream(path)
            return
        target = path.resolve()
        if not target.parent.is_dir():
            raise InputError(f"{option}: the folder of {path} does not exist")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        _try_folder(target.parent)


def check_folder(option: str, path: Path) -> None:
    """Raise InputError, which names the option, where files in `path` cannot be written.

    The folder need not exist, nor those that it lies in; they are not made here.
    """
    with _refusing(option, path):
        there = path.absolute()
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise InputError(f"{option}: {path} cannot be written: {there} is a file")
        _try_folder(there)


def check_new_bag(option: str, path: Path) -> None:
    """Raise InputError, which names the option, where `path` exists or cannot be made."""
    if os.path.lexists(path):
        raise InputError(f"{option}: {path} exists already; bags are not overwritten")
    check_folder(option, path)


def refuse_foreign(option: str, path: Path, ours: bool, overwrite: bool) -> None:
    """Raise InputError where what lies at `path` is not `ours` and may not be overwritten."""
    if not ours and not overwrite:
        raise InputError(
            f"{option}: {path} holds something that is not from an earlier run: give another "
            "place, or --overwrite"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, all or nothing: what was there stays until the new one is complete.

    Raises OSError.
    """
    if _is_stream(path):
        with path.open("ab") as stream:
            stream.write(data)
        return
    target = path.resolve()
    beside = target.with_name(f"{UNFINISHED}{secrets.token_hex(4)}")
    try:
        beside.write_bytes(data)
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


class LineFile:
    """A file that grows by whole lines: one that does not fit any more is not there at all."""

    def __init__(self, path: Path, append: bool = False) -> None:
        self._path = path
        self._file = path.open("ab" if append else "wb", buffering=0)

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, line: str) -> None:
        """Append a line, which ends with its line break. Raises OSError."""
        data, begin = line.encode("utf-8"), self._file.tell()
        try:
            written = self._file.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        if written != len(data):
            self._file.truncate(begin)
            self._file.seek(begin)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Stage:
    """Where new results are written. `keep`: whether they are worth keeping if the work ends
    early."""

    folder: Path
    keep: bool = False


@contextmanager
def staged(folder: Path, names: Sequence[str]) -> Iterator[Stage]:
    """A stage for the results `names` of `folder`, which at the end take the place of all earlier
    ones together; anything else in `folder` stays.

    Where the work ends early and nothing is worth keeping, the earlier results stay. Raises
    InputError where something cannot be written.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder)))
    try:
        yield stage
        stage.keep = True
    except OSError as error:
        if error.filename is None or not Path(error.filename).is_relative_to(stage.folder):
            raise
        raise InputError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        if stage.keep:
            _take_place(folder, stage.folder, names)
        shutil.rmtree(stage.folder)
        if made:
            with suppress(OSError):  # where it is not empty
                folder.rmdir()


def _take_place(folder: Path, stage: Path, names: Sequence[str]) -> None:
    # All earlier results go first, so that old and new never lie side by side.
    for name in names:
        old = folder / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for new in stage.iterdir():
        new.rename(folder / new.name)


@contextmanager
def _refusing(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be written: {error.strerror}") from error


def _is_stream(path: Path) -> bool:
    """Whether this is a pipe, a terminal or another device, or a name of a file that is open."""
    if str(path.absolute()).startswith(STREAMS):
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _try_stream(path: Path) -> None:
    """Raise OSError where a device takes nothing; a pipe's reader and a terminal see nothing."""
    if stat.S_ISFIFO(path.stat().st_mode):
        return
    with path.open("ab", buffering=0) as stream:
        if stat.S_ISCHR(path.stat().st_mode) and not stream.isatty():
            stream.write(b"\n")  # only so a full device says that it is full


def _try_folder(folder: Path) -> None:
    """Raise OSError where no file can be written in a folder."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
