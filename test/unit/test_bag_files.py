"""Bags as they lie on disks: without metadata, renamed, packed, split, cut off, altered."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.interfaces import ConnectionExtRosbag2, MessageDefinitionFormat

from bag_samples import (
    IMAGES,
    LABELS,
    STAMP,
    STEP,
    assert_labels,
    frames,
    ids,
    labels_of,
    picture,
    raw,
    text,
    write,
)
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.labelled_bags import open_bag

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGES = {"mcap": ".mcap", "sqlite3": ".db3"}
COUNT = 150
"""Images, of 9 kB each: an mcap has two chunks of them, a database pages of every kind."""


@pytest.fixture(scope="module", params=STORAGES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of COUNT images with labels."""
    return record(tmp_path_factory.mktemp("recorded") / "drive", request.param)


def record(path: Path, storage: str, first: int = 0, count: int = COUNT) -> Path:
    messages = []
    for i in range(first, first + count):
        messages += [(IMAGES, raw(i), i), (LABELS, labels_of(i), i)]
    return write(path, *messages, storage=storage)


@pytest.fixture
def bag(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "drive"))


def file_of(bag: Path) -> Path:
    (file,) = (f for f in bag.iterdir() if f.suffix in STORAGES.values())
    return file


def change_metadata(bag: Path, **changes: object) -> None:
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"].update(changes)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))


def assert_whole(path: Path, count: int = COUNT) -> None:
    """All images are there in order, each with its labels, and nothing else."""
    stream = open_bag(path, IMAGES, label_topic=LABELS)
    assert stream.count == count
    read = frames(stream.read())
    assert [item.frame.stamp_ns for item in read] == [STAMP + i * STEP for i in range(count)]
    np.testing.assert_array_equal(read[-1].frame.image, picture(count - 1))
    assert_labels(read[-1], ids(count - 1))
    assert stream.unmatched() == 0


def test_metadata_that_is_missing_empty_or_wrong(bag: Path) -> None:
    change_metadata(bag, storage_identifier="", message_count=1, version=99)
    topics = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    stale = [{**topic, "message_count": 2} for topic in topics["topics_with_message_count"]]
    change_metadata(bag, topics_with_message_count=stale)
    assert_whole(bag)
    for content in ("", "no: [yaml", "[" * 3000, "rosbag2_bagfile_information: 3"):
        (bag / "metadata.yaml").write_text(content)
        assert_whole(bag)
    (bag / "metadata.yaml").unlink()
    assert_whole(bag)
    assert_whole(file_of(bag))


def test_files_that_were_renamed(bag: Path, tmp_path: Path) -> None:
    file = file_of(bag)
    renamed = file.rename(bag / f"monday, 100% #1?{file.suffix}")
    assert_whole(bag)
    assert_whole(renamed)
    without_suffix = renamed.rename(tmp_path / "monday")
    assert_whole(without_suffix)


def test_files_that_lie_beside_are_no_part_of_the_bag(bag: Path) -> None:
    file = file_of(bag)
    shutil.copy(file, bag / f"copy_of_it{file.suffix}")
    assert_whole(bag)


@pytest.mark.parametrize("beside", [False, True])
def test_files_that_are_packed(bag: Path, beside: bool) -> None:
    file = file_of(bag)
    packed = bag / f"{file.name}.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    change_metadata(
        bag,
        relative_file_paths=[packed.name],
        compression_format="zstd",
        compression_mode="FILE",
    )
    if not beside:
        file.unlink()
    assert_whole(bag)
    assert_whole(packed)
    (bag / "metadata.yaml").unlink()
    assert_whole(bag)


def test_a_packed_file_that_is_cut_off(bag: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of(bag)
    packed = bag / f"{file.name}.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes())[:-1000])
    read = frames(open_bag(packed, IMAGES).read())
    assert 10 < len(read) < COUNT
    assert "is cut off: it is read as far as it goes" in caplog.text


def test_messages_that_are_packed(tmp_path: Path) -> None:
    with sqlite3.connect(file_of(record(tmp_path / "bag", "sqlite3", count=3))) as database:
        rows = database.execute("SELECT id, data FROM messages").fetchall()
        for id_, data in rows:
            packed = zstd.compress(data), id_
            database.execute("UPDATE messages SET data = ? WHERE id = ?", packed)
    change_metadata(tmp_path / "bag", compression_format="zstd", compression_mode="MESSAGE")
    assert_whole(tmp_path / "bag", 3)
    assert_whole(file_of(tmp_path / "bag"), 3)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_that_is_split(
    storage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files come in the order of their times, whatever they are called; one is missing later."""
    bag = tmp_path / "bag"
    bag.mkdir()
    names = {0: "bag_9", 2: "bag_10", 4: "again"}
    for first, name in names.items():
        file = file_of(record(tmp_path / str(first), storage, first, 2))
        file.rename(bag / f"{name}{file.suffix}")
    assert_whole(bag, 6)
    listed = [f"{name}{STORAGES[storage]}" for name in names.values()]
    metadata = {"rosbag2_bagfile_information": {"relative_file_paths": listed}}
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    (bag / listed[2]).unlink()
    assert_whole(bag, 4)
    assert "metadata.yaml names 3 files, 2 are there" in caplog.text
    (bag / listed[1]).write_bytes(b"")
    assert_whole(bag, 2)
    assert f"{listed[1]} is no bag file, or an empty one" in caplog.text


def test_a_bag_without_an_end(bag: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a power loss: metadata was never written, the file has no index, or ends in zeros."""
    file = file_of(bag)
    content = file.read_bytes()
    (bag / "metadata.yaml").unlink()
    last = -1
    for share in (0.1, 0.5, 0.9):
        for tail in (b"", bytes(5000) if file.suffix == ".mcap" else b""):
            file.write_bytes(content[: int(share * len(content))] + tail)
            caplog.clear()
            stream = open_bag(bag, IMAGES, label_topic=LABELS)
            assert [r.levelno for r in caplog.records] == [logging.WARNING]
            assert "is cut off: it is read as far as it goes, " in caplog.text
            read = frames(stream.read())
            assert share * COUNT * 0.8 - 5 < len(read) < COUNT * share + 5
            assert len(read) == stream.count
            stamps = [item.frame.stamp_ns for item in read]
            assert stamps == [STAMP + i * STEP for i in range(len(read))]
            # Nothing tells an image that ends in the file system's zeros from a whole one.
            last_whole = len(read) - (2 if tail else 1)
            np.testing.assert_array_equal(read[last_whole].frame.image, picture(last_whole))
            assert stream.unmatched() >= 0
            assert len(read) >= last
        last = len(read)
    connection = next(c for c in Bag(bag).connections if c.topic == IMAGES)
    assert connection.msgdef.format is MessageDefinitionFormat.MSG
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    assert connection.ext.offered_qos_profiles[0].depth == 10


def test_what_a_recorder_left_in_its_journal(tmp_path: Path) -> None:
    """A database in WAL mode whose recorder was cut off: all messages are in the file beside."""
    whole = record(tmp_path / "whole", "sqlite3", count=4)
    copy = tmp_path / "copy.db3"
    database = sqlite3.connect(copy)
    database.execute("PRAGMA journal_mode = WAL")
    with sqlite3.connect(file_of(whole)) as source:
        database.executescript("\n".join(source.iterdump()))
    database.commit()
    bag = tmp_path / "bag"
    bag.mkdir()
    for file in tmp_path.glob("copy.db3*"):
        shutil.copy(file, bag)
    database.close()
    assert (bag / "copy.db3-wal").stat().st_size > 50_000
    before = {f.name: f.read_bytes() for f in bag.iterdir()}
    assert_whole(bag, 4)
    assert {f.name: f.read_bytes() for f in bag.iterdir()} == before


@pytest.mark.parametrize("ended", [True, False])
def test_an_altered_chunk_is_noticed(tmp_path: Path, ended: bool) -> None:
    bag = record(tmp_path / "bag", "mcap")
    file = file_of(bag)
    content = bytearray(file.read_bytes())
    place = content.index(picture(3).tobytes()[:64]) + 1000  # a pixel
    content[place] ^= 1
    file.write_bytes(content if ended else content[:-20])
    with pytest.raises(InputError, match=r"cannot be read as a bag: .*[Cc]hecksum"):
        list(open_bag(bag, IMAGES).read())


def test_what_publishers_offered_in_all_files(tmp_path: Path) -> None:
    """The topic of a split bag has one connection, with the QoS of all files."""
    for i, name in enumerate(("a", "b")):
        bag = write(tmp_path / name, ("/chatter", text("hello"), i), storage="sqlite3")
        if name == "b":
            with sqlite3.connect(file_of(bag)) as database:
                (old,) = database.execute("SELECT offered_qos_profiles FROM topics").fetchone()
                new = old.replace("depth: 10", "depth: 7")
                assert new != old
                database.execute("UPDATE topics SET offered_qos_profiles = ?", [new])
    shutil.copy(file_of(tmp_path / "b"), tmp_path / "a" / "b.db3")
    (tmp_path / "a" / "metadata.yaml").unlink()
    (connection,) = Bag(tmp_path / "a").connections
    assert isinstance(connection.ext, ConnectionExtRosbag2)
    assert [qos.depth for qos in connection.ext.offered_qos_profiles] == [10, 7]
    assert connection.msgcount == 2
