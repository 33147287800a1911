"""A recorded bag is labelled."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    QosDurability,
    QosReliability,
)
from rosbags.rosbag2 import Reader, Writer

from bag_samples import (
    IMAGES,
    STAMP,
    STEP,
    assert_labels,
    labels_of,
    raw,
    run,
    text,
    write,
)
from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.bag_writer import (
    STORAGES,
    BagWriter,
    new_bag,
    offered_qos,
)
from sam2vss_ros.io.bags import Bag
from sam2vss_ros.io.labelled_bags import open_bag
from sam2vss_ros.io.readers import LabelledFrame


def bytes_of(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    messages: dict[str, list[tuple[int, bytes]]] = {}
    for connection, time, data in Bag(path).messages():
        messages.setdefault(connection.topic, []).append((time, data))
    return messages


def recording(path: Path, storage: str) -> Path:
    """Images, one of them broken, and something that is not ours to understand."""
    broken = raw(2)
    broken.data = broken.data[:100]
    images = [raw(0), raw(1), broken, raw(3)]
    return write(
        path,
        *((IMAGES, message, i) for i, message in enumerate(images)),
        *(("/chatter", text(f"{i}"), i) for i in range(3)),
        storage=storage,
    )


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recorded_bag_is_labelled(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = recording(tmp_path / "bag", storage), tmp_path / "out"
    code = run("bag", "label", bag, "--out", out, "--storage", storage, "--overlay",
               "--device", "cpu", "--threads", 1, "--max-objects", 3)  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "3 images of /camera/image_raw labelled" in printed
    assert "1 skipped: truncated data" in printed

    before, after = bytes_of(bag), bytes_of(out)
    added = {"/vss/label_image", "/vss/overlay", "/vss/class_catalog", "/vss/label_info"}
    assert {t: after[t] for t in after if t not in added} == before
    assert added < after.keys() and len(after["/vss/overlay"]) == 3
    assert [time for time, _ in after["/vss/label_image"]] == [STAMP + i * STEP for i in (0, 1, 3)]
    pipeline = open_pipeline(PipelineConfig(device="cpu", threads=1, max_objects=3))
    labelled = 0
    for item in open_bag(out, IMAGES, label_topic="/vss/label_image").read():
        if isinstance(item, LabelledFrame):
            labels = pipeline.process(item.frame).label_image
            assert_labels(item, labels)
            labelled += 1
    assert labelled == 3
    with AnyReader([out]) as reader:
        connections = {c.topic: c for c in reader.connections}
        _, _, data = next(reader.messages([connections["/vss/label_image"]]))
        label: Any = reader.deserialize(data, "sensor_msgs/msg/Image")
        assert label.header.frame_id == "front"
        qos = connections["/vss/class_catalog"].ext.offered_qos_profiles[0]
        assert qos.durability == QosDurability.TRANSIENT_LOCAL
        original = connections["/chatter"]
    assert original.ext.offered_qos_profiles[0].reliability == QosReliability.RELIABLE


def make_old(bag: Path) -> None:
    """As Humble leaves a sqlite3 bag: no definitions, no hashes; one type that nobody knows."""
    with sqlite3.connect(bag / f"{bag.name}.db3") as database:
        database.execute("DROP TABLE message_definitions")
        database.execute("DROP TABLE schema")
        database.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        database.execute("UPDATE topics SET type = 'acme/msg/Odd' WHERE name = '/chatter'")
    data = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = data["rosbag2_bagfile_information"]
    information["version"] = 5
    for topic in information["topics_with_message_count"]:
        del topic["topic_metadata"]["type_description_hash"]
        if topic["topic_metadata"]["name"] == "/chatter":
            topic["topic_metadata"]["type"] = "acme/msg/Odd"
    (bag / "metadata.yaml").write_text(yaml.safe_dump(data))


def test_a_bag_of_humble_is_labelled(tmp_path: Path) -> None:
    bag = recording(tmp_path / "bag", "sqlite3")
    make_old(bag)
    assert run("bag", "label", bag, "--out", tmp_path / "out", "--device", "cpu") == 0
    before, after = bytes_of(bag), bytes_of(tmp_path / "out")
    assert after[IMAGES] == before[IMAGES] and after["/chatter"] == before["/chatter"]
    with AnyReader([tmp_path / "out"]) as reader:
        assert reader.message_count == 4 + 3 + 3 + 2
        (odd,) = reader.topics["/chatter"].connections
        assert odd.msgtype == "acme/msg/Odd" and odd.msgcount == 3


def test_a_bag_that_cannot_be_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write(tmp_path / "bag", (IMAGES, raw(0), 0), ("/vss/label_image", labels_of(0), 0))
    out = tmp_path / "out"
    arguments = ["bag", "label", bag, "--image-topic", IMAGES, "--out", out, "--device", "cpu"]
    assert run(*arguments) == 2
    assert "has a topic /vss/label_image: give another --namespace" in capsys.readouterr().err
    assert not out.exists()
    assert run(*arguments, "--namespace", "/second") == 0
    assert len(bytes_of(out)["/second/label_image"]) == 1
    assert run(*arguments, "--namespace", "/third") == 2
    assert "exists already" in capsys.readouterr().err
    assert run("bag", "label", bag, "--image-topic", "/no", "--out", tmp_path / "x") == 2
    assert "no topic /no; it holds" in capsys.readouterr().err


def test_what_is_begun_and_fails_is_removed(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt(), OSError("the disk is full")):
        expected: Any = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected), new_bag(tmp_path / "new/bag", "mcap") as bag:
            assert isinstance(bag, BagWriter)
            bag.write(IMAGES, raw(0), STAMP)
            raise error
        assert not (tmp_path / "new/bag").exists()


WHEELS = (
    f"{'=' * 80}\nIDL: acme/msg/Wheels\n"
    "module acme { module msg { struct Wheels { float a; }; }; };\n"
)
OWN = "float32 speed  # m/s\n"
QOS = [offered_qos(3), offered_qos(5, latched=True)]


@pytest.mark.parametrize("made", STORAGES)
@pytest.mark.parametrize("storage", STORAGES)
def test_definitions_hashes_and_qos_are_kept(made: str, storage: str, tmp_path: Path) -> None:
    """Of types that only the recording knows, in both languages; hashes as they were."""
    bag, out = tmp_path / "bag", tmp_path / "out"
    with Writer(bag, version=9, storage_plugin=STORAGES[made]) as writer:
        for i, (name, text_) in enumerate((("Wheels", WHEELS), ("Own", OWN))):
            hash_ = f"RIHS01_{i + 1:064x}"
            type_ = f"acme/msg/{name}"
            connection = writer.add_connection(
                f"/{name}", type_, msgdef=text_, rihs01=hash_, offered_qos_profiles=QOS
            )
            writer.write(connection, STAMP, b"\0\1\0\0abcd")
    before = Bag(bag)
    with new_bag(out, storage) as copy:
        for connection in before.connections:
            copy.add(connection)
        for message in before.messages():
            copy.copy(*message)
    assert bytes_of(out) == bytes_of(bag)
    with Reader(out) as reader:
        kept = {c.topic: c for c in reader.connections}
    assert kept["/Wheels"].msgdef == MessageDefinition(MessageDefinitionFormat.IDL, WHEELS)
    assert kept["/Own"].msgdef == MessageDefinition(MessageDefinitionFormat.MSG, OWN)
    assert [kept[t].digest for t in ("/Wheels", "/Own")] == [f"RIHS01_{i:064x}" for i in (1, 2)]
    for connection in kept.values():
        assert isinstance(connection.ext, ConnectionExtRosbag2)
        assert connection.ext.offered_qos_profiles == QOS
