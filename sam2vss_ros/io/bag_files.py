"""The files of a bag as they lie on disks.

What a file is, its first bytes say, not its name nor metadata.yaml, which may be missing, stale or
of before the files were renamed. From it are taken names, to leave out files that happen to lie
beside, and hashes of types.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Protocol

import yaml
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2

from sam2vss_ros.errors import InputError
from sam2vss_ros.io.bag_scan import ScannedMcap, ScannedSqlite
from sam2vss_ros.io.zstandard import zstd

log = logging.getLogger(__name__)

MCAP, SQLITE, ROS1, ZSTD = (
    b"\x89MCAP0\r\n",
    b"SQLite format 3\0",
    b"#ROSBAG V2.0",
    b"\x28\xb5\x2f\xfd",
)
SUFFIXES = {MCAP: ".mcap", SQLITE: ".db3", ROS1: ".bag"}
INFORMATION = "rosbag2_bagfile_information"
NOT_PLAIN = "?#%"
"""Characters that rosbags cannot have in the path of an sqlite3 file."""


class Storage(Protocol):
    """One file of a bag. `start`: time of its first message in ns."""

    connections: list[Connection]
    start: int

    def messages(
        self, topics: Collection[str], since_ns: int = 0
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording in ns and bytes of these topics' messages, of those that
        were recorded at `since_ns` or later."""


class BagFiles:
    """The files of the bag at `path`, a folder or a file; `storages` in the order of their times.

    hashes: those of the types, by topic and type, that only metadata.yaml has of an mcap.

    Files that are compressed or were left open are laid in a temporary folder, which goes with this
    object. What is missing or cut off is told in the log. Raises InputError, or whatever a parser
    makes of a damaged file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise InputError("it does not exist")
        names, self.hashes = _metadata(path)
        found = [storage for file in _files(path, names) if (storage := self._open(file))]
        if not found:
            raise InputError("it holds no file of a bag (.mcap, .db3, or .zstd of these)")
        self.storages: list[Storage] = sorted(found, key=lambda storage: storage.start)
        self.is_ros1 = any(isinstance(s, WholeFile) and s.is_ros1 for s in found)

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="sam2vss-")

    def _open(self, file: Path) -> Storage | None:
        """The reader for a file; None for an empty one beside others."""
        kind = _kind(file)
        if kind == ZSTD:
            return self._open(self._unpacked(file))
        if kind == SQLITE:
            file = self._merged(file)
            if _is_cut_off(file):
                return _told(ScannedSqlite(file), self._path)
        if kind == MCAP and not _has_index(file):
            return _told(ScannedMcap(file), self._path)
        if kind in SUFFIXES:
            return WholeFile(self._named(file, SUFFIXES[kind]), kind == ROS1)
        if self._path.is_dir():
            log.warning("%s is no bag file, or an empty one: it is left out", file)
            return None
        raise InputError("it is empty" if not file.stat().st_size else "it is of no known kind")

    def _unpacked(self, file: Path) -> Path:
        unpacked = self._place(file.stem)
        try:
            with zstd.open(file, "rb") as packed, unpacked.open("wb") as target:
                try:
                    shutil.copyfileobj(packed, target, 1 << 20)
                except EOFError:
                    log.warning("%s is cut off: it is read as far as it goes", file)
        except OSError as error:
            raise InputError(
                f"it cannot be unpacked into {unpacked.parent}: {error.strerror} (TMPDIR names "
                "another folder)"
            ) from error
        return unpacked

    def _merged(self, file: Path) -> Path:
        """The database with what a recorder that was cut off has left beside it."""
        beside = [file.with_name(file.name + end) for end in ("-wal", "-journal")]
        beside = [path for path in beside if path.exists() and path.stat().st_size]
        if not beside:
            return file
        copy = self._place(file.name)
        for path in (file, *beside):
            shutil.copyfile(path, copy.with_name(path.name))
        with closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA journal_mode = DELETE").fetchall()
        return copy

    def _named(self, file: Path, suffix: str) -> Path:
        """The file under a name that rosbags reads."""
        path = file.absolute()
        if file.suffix == suffix and not any(c in str(path) for c in NOT_PLAIN):
            return file
        link = self._place("bag").with_suffix(suffix)
        link.symlink_to(path.resolve())
        return link

    def _place(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch.name)) / name


class WholeFile:
    """A file with its index, read by rosbags."""

    def __init__(self, path: Path, is_ros1: bool) -> None:
        self._path, self.is_ros1 = path, is_ros1
        with self._reader() as reader:
            self.connections: list[Connection] = list(reader.connections)
            self.start = reader.start_time

    def messages(
        self, topics: Collection[str], since_ns: int = 0
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """See Storage."""
        with self._reader() as reader:
            wanted = [c for c in reader.connections if c.topic in topics]
            if wanted:
                yield from reader.messages(wanted, start=since_ns or None)

    def _reader(self) -> Reader1 | Reader2:
        return Reader1(self._path) if self.is_ros1 else Reader2(self._path)


def unpacked_message(data: bytes) -> bytes:
    """A message in CDR, which begins with a zero byte; those of some bags are compressed."""
    return zstd.decompress(data) if data.startswith(ZSTD) else data


def _files(path: Path, names: list[str]) -> list[Path]:
    """The files of a bag: those that metadata.yaml names, where they are there."""
    if not path.is_dir():
        return [path]
    named = [path / name for name in names]
    if named and all(file.is_file() for file in named):
        return named
    ends = tuple(SUFFIXES[kind] + z for kind in (MCAP, SQLITE) for z in ("", ".zstd"))
    found = sorted(f for f in path.iterdir() if f.name.endswith(ends) and f.is_file())
    found = [f for f in found if f.suffix != ".zstd" or f.with_suffix("") not in found]
    if len(found) < len(names):
        log.warning("%s: metadata.yaml names %d files, %d are there", path, len(names), len(found))
    return found


def _metadata(folder: Path) -> tuple[list[str], dict[tuple[str, str], str]]:
    """What metadata.yaml says, as far as it can be read: names of files, hashes of types.

    It is composed only: making objects of it would take any time that a stranger likes.
    """
    names: list[str] = []
    hashes: dict[tuple[str, str], str] = {}
    try:
        text = (folder / "metadata.yaml").read_text(encoding="utf-8")
        about = _entries(_entries(yaml.compose(text, yaml.SafeLoader))[INFORMATION])
        names = [PurePath(item.value).name for item in about["relative_file_paths"].value]
        for item in about["topics_with_message_count"].value:
            topic = {k: v.value for k, v in _entries(_entries(item)["topic_metadata"]).items()}
            if re.fullmatch(r"RIHS\d\d_[0-9a-f]{64}", topic.get("type_description_hash", "")):
                hashes[topic["name"], topic["type"]] = topic["type_description_hash"]
    except (yaml.YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.debug("%s: metadata.yaml is of no use: %s", folder, error)
    except RecursionError:
        log.debug("%s: metadata.yaml is of no use: nested too deeply", folder)
    return names, hashes


def _entries(node: Any) -> dict[str, Any]:
    """The values of a YAML mapping's node by its keys."""
    return {key.value: value for key, value in node.value}


def _kind(file: Path) -> bytes:
    """The first bytes of a file, by which its kind is known; empty for another kind."""
    with file.open("rb") as opened:
        begin = opened.read(16)
    return next((kind for kind in (*SUFFIXES, ZSTD) if begin.startswith(kind)), b"")


def _has_index(file: Path) -> bool:
    """Whether an MCAP ends as it should, with a footer that tells where its index is."""
    with file.open("rb") as opened:
        opened.seek(-min(37, opened.seek(0, os.SEEK_END)), os.SEEK_END)
        end = opened.read()
    return end.endswith(MCAP) and end[:1] == b"\x02" and any(end[9:17])


def _is_cut_off(file: Path) -> bool:
    """Whether a database is shorter than its header says."""
    with file.open("rb") as opened:
        head = opened.read(100)
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    return file.stat().st_size < pages * (65536 if page == 1 else page)


def _told(storage: ScannedMcap | ScannedSqlite, bag: Path) -> Storage:
    if not storage.complete:
        count = sum(connection.msgcount for connection in storage.connections)
        log.warning("%s is cut off: it is read as far as it goes, %d messages", bag, count)
    return storage
