"""config/vss.rviz and config/foxglove_layout.json show topics that the node publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness import Harness, Start

RVIZ_TYPES = {
    "rviz_default_plugins/Image": "Image",
    "rviz_default_plugins/PointCloud2": "PointCloud2",
    "vision_msgs_rviz_plugins/Detection3DArray": "Detection3DArray",
}


def published(bench: Harness) -> dict[str, str]:
    """Topic -> name of its type."""
    return {p.topic_name: p.msg_type.__name__ for p in bench.active().node.publishers}


def test_rviz_shows_what_there_is(start: Start, root: Path) -> None:
    text = (root / "config/vss.rviz").read_text(encoding="utf-8")
    displays = yaml.safe_load(text)["Visualization Manager"]["Displays"]
    shown = {one["Topic"]["Value"]: RVIZ_TYPES[one["Class"]] for one in displays if "Topic" in one}
    topics = published(start())
    assert shown == {topic: topics.get(topic) for topic in shown}
    assert set(shown) == {
        "/vss/overlay", "/vss/instance_image", "/vss/labelled_cloud", "/vss/detections_3d",
    }  # fmt: skip


def test_foxglove_shows_what_there_is(start: Start, root: Path) -> None:
    layout = json.loads((root / "config/foxglove_layout.json").read_text(encoding="utf-8"))
    (script,) = (one["sourceCode"] for one in layout["userNodes"].values())
    made = re.findall(r'output = "(.+?)"', script)
    topics = set(published(start()))
    named = {word for word in words(layout) if re.fullmatch(r"/[\w/]+", word)}
    named |= set(re.findall(r'"(/vss/\w+)"', script))
    assert {"/vss/overlay", "/vss/objects", "/vss/objects_3d", "/vss/labelled_cloud"} <= named
    assert named - set(made) <= topics
    assert set(panels(layout["layout"])) == set(layout["configById"])


def test_the_script_reads_fields_that_the_message_has(root: Path) -> None:
    from sam2vss_ros.msg import Object3D

    layout = json.loads((root / "config/foxglove_layout.json").read_text(encoding="utf-8"))
    (script,) = (one["sourceCode"] for one in layout["userNodes"].values())
    fields = set(re.findall(r"\bo\.(\w+)", script))
    assert fields and fields <= set(Object3D.get_fields_and_field_types())


def words(node: Any) -> Iterator[str]:
    """Every key and text of a layout."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from words(value)
    elif isinstance(node, list):
        for value in node:
            yield from words(value)
    elif isinstance(node, str):
        yield node


def panels(node: Any) -> Iterator[str]:
    """The panels of a layout's tree."""
    if isinstance(node, str):
        yield node
    else:
        yield from panels(node["first"])
        yield from panels(node["second"])
