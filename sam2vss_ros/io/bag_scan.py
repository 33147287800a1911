"""Recordings that lack their end, after a power loss: read from their beginning as far as they go.

`ros2 bag record` writes the index of an mcap file last, and a database that is shorter than it says
is refused by SQLite.
"""

from __future__ import annotations

import io
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import lz4.frame  # type: ignore[import-untyped]
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import parse_qos

from sam2vss_ros.io.zstandard import zstd

SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
PRIVATE = 0x80
MAGIC_SIZE = 8
LARGEST = 1 << 30
"""Bytes; what says that it is larger is no record."""

FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
NEVER = (1 << 63) - 1

Message = tuple[Connection, int, bytes]


class _Scan:
    """What both have: connections with their counts, made by reading everything once.

    `complete`: whether the end was reached. `start`: the earliest time of a message in ns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[int, Connection] = {}
        self.complete, self.start = False, NEVER
        counts: Counter[int] = Counter()
        for connection, time, _ in self._scan():
            counts[connection.id] += 1
            self.start = min(self.start, time)
        self.connections = [c._replace(msgcount=counts[i]) for i, c in self._found.items()]

    def messages(self, topics: Collection[str], since_ns: int = 0) -> Iterator[Message]:
        """Connection, time of recording in ns and bytes of these topics' messages, of those that
        were recorded at `since_ns` or later."""
        for message in self._scan():
            if message[0].topic in topics and message[1] >= since_ns:
                yield message

    def _scan(self) -> Iterator[Message]:
        raise NotImplementedError

    def _connection(
        self, id_: int, topic: str, type_: str, definition: MessageDefinition, form: str, qos: str
    ) -> Connection:
        ext = ConnectionExtRosbag2(form, parse_qos(qos))
        return Connection(id_, topic, type_, definition, "", 0, ext, self)


class ScannedMcap(_Scan):
    """An mcap file without an index.

    Messages come chunk by chunk, in each in the order of their times. Raises ValueError where a
    chunk is whole, and its content is not.
    """

    def _scan(self) -> Iterator[Message]:
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        with self._path.open("rb") as file:
            file.seek(MAGIC_SIZE)
            for kind, content in _records(file):
                if kind == CHUNK:
                    data, whole = _unpacked(content)
                    inside = self._read(_records(io.BytesIO(data), strict=whole))
                    yield from sorted(inside, key=lambda message: message[1])
                elif kind == DATA_END:
                    self.complete = True
                    return
                else:
                    yield from self._read([(kind, content)])

    def _read(self, records: Any) -> Iterator[Message]:
        for kind, content in records:
            fields = _Fields(content)
            if kind == SCHEMA:
                (id_,) = fields.take("<H")
                name, encoding, text = fields.text(), fields.text(), fields.text()
                form = FORMATS.get(encoding, MessageDefinitionFormat.NONE)
                self._schemas[id_] = name, MessageDefinition(form, text)
            elif kind == CHANNEL:
                id_, schema = fields.take("<HH")
                topic, encoding = fields.text(), fields.text()
                none = "", MessageDefinition(MessageDefinitionFormat.NONE, "")
                type_, definition = self._schemas.get(schema, none)
                qos = fields.map().get("offered_qos_profiles", "")
                self._found[id_] = self._connection(id_, topic, type_, definition, encoding, qos)
            elif kind == MESSAGE:
                id_, _, time, _ = fields.take("<HIQQ")
                if id_ in self._found:
                    yield self._found[id_], time, fields.rest()


class ScannedSqlite(_Scan):
    """A database that was cut off; messages come in the order in which they were written."""

    def _scan(self) -> Iterator[Message]:
        address = f"file:{quote(str(self._path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA writable_schema = ON")  # or else it will not be opened
            definitions = {
                row["topic_type"]: MessageDefinition(
                    FORMATS.get(row["encoding"], MessageDefinitionFormat.NONE),
                    row["encoded_message_definition"],
                )
                for row in _rows(database, "message_definitions")
            }
            for topic in _rows(database, "topics"):
                row = dict(topic)
                definition = definitions.get(
                    row["type"], MessageDefinition(MessageDefinitionFormat.NONE, "")
                )
                self._found[row["id"]] = self._connection(
                    row["id"],
                    row["name"],
                    row["type"],
                    definition,
                    row["serialization_format"],
                    row.get("offered_qos_profiles", ""),
                )
            for message in _rows(database, "messages"):
                if message["topic_id"] in self._found:
                    yield self._found[message["topic_id"]], message["timestamp"], message["data"]


def _rows(database: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """The rows of a table that can be read, in the order in which they were written."""
    try:
        yield from database.execute(f"SELECT * FROM {table} ORDER BY rowid")
    except sqlite3.DatabaseError:
        return


def _records(file: BinaryIO, strict: bool = False) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the records that matter, up to the first that is not whole; of a chunk
    also what there is of it. strict: raise ValueError where one is not whole."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    while len(head := file.read(9)) == 9:
        kind, size = struct.unpack("<BQ", head)
        left = end - file.tell()
        whole = size <= left
        known = 0 < kind <= DATA_END or kind >= PRIVATE
        if strict and not (known and whole):
            raise ValueError("a chunk is damaged: what is in it are no records")
        if not known or size > LARGEST or not (whole or kind == CHUNK):
            return
        if kind in (SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END):
            yield kind, file.read(size)
        else:
            file.seek(size, io.SEEK_CUR)
        if not whole:
            return


def _unpacked(chunk: bytes) -> tuple[bytes, bool]:
    """The records of a chunk, or as many of their bytes as there are, and whether these are all."""
    fields = _Fields(chunk)
    try:
        _, _, size, checksum = fields.take("<QQQI")
        compression = fields.text()
        (length,) = fields.take("<Q")
    except (struct.error, UnicodeDecodeError):
        return b"", False
    packed, most = fields.rest(), min(size, LARGEST)
    if compression == "zstd":
        data = zstd.ZstdDecompressor().decompress(packed, max_length=most)
    elif compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=most)
    elif compression == "":
        data = packed
    else:
        raise ValueError(f"a chunk is compressed by {compression[:20]!r}")
    whole = len(packed) == length
    if whole and checksum and zlib.crc32(data) != checksum:
        raise ValueError("the checksum of a chunk does not match: its content was altered")
    return data, whole


def add_checksums(path: Path) -> None:
    """Give the chunks of an mcap file, which are not compressed, the checksums that rosbags leaves
    out, so that later damage is noticed."""
    with path.open("r+b") as file:
        file.seek(MAGIC_SIZE)
        while len(head := file.read(9)) == 9:
            kind, size = struct.unpack("<BQ", head)
            begin = file.tell()
            if kind == CHUNK:
                data, _ = _unpacked(file.read(size))
                file.seek(begin + 24)
                file.write(struct.pack("<I", zlib.crc32(data)))
            elif kind == DATA_END:
                return
            file.seek(begin + size)


class _Fields:
    """The fields of a record, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Numbers, as struct lays them out."""
        numbers = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return numbers

    def text(self) -> str:
        """A text behind its length."""
        (length,) = self.take("<I")
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def map(self) -> dict[str, str]:
        """Pairs of texts behind their length in bytes."""
        (length,) = self.take("<I")
        end, pairs = self._at + length, {}
        while self._at < min(end, len(self._data)):
            key = self.text()
            pairs[key] = self.text()
        return pairs

    def rest(self) -> bytes:
        """What is left."""
        return self._data[self._at :]
