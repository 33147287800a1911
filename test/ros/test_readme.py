"""The README's tables of topics and services say what the node does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness import Start

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under one heading, up to the next of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title}"
    return found[1]


def test_topics_and_services_are_those_of_the_node(start: Start) -> None:
    bench = start(masks=["people=Pedestrian,Bicyclist"])
    bench.active()
    rows = re.findall(r"^\| (in|out) \| `(.+?)` \| `(.+?)` \|", section("Topics"), re.M)
    told = {
        name.replace("~", "/vss").replace("<name>", "people"): kind
        for direction, name, kind in rows
        if direction == "out" and not kind.startswith("vision_msgs/")
    }
    # rclpy's own are left out: parameter events, log and transition event.
    own = {p.topic_name: message_name(p.msg_type) for p in bench.node.publishers}
    real = {
        topic: kind
        for topic, kind in own.items()
        if topic in told or (topic.startswith("/vss/") and not kind.startswith("lifecycle_msgs/"))
    }
    real = {topic: kind for topic, kind in real.items() if not kind.startswith("vision_msgs/")}
    assert told == real
    services = {
        f"/vss/{name}": kind
        for name, kind in re.findall(r"^\| `~/(\w+)` \| `(.+?)` \|", section("Topics"), re.M)
    }
    offered = {s.srv_name: message_name(s.srv_type) for s in bench.node.services}
    ours = {k: v for k, v in offered.items() if v.startswith(("sam2vss_ros/", "std_srvs/"))}
    assert {k.split("/")[-1]: v for k, v in ours.items()} == {
        k.split("/")[-1]: v for k, v in services.items()
    }


def message_name(kind: Any) -> str:
    """sensor_msgs.msg.Image -> sensor_msgs/Image."""
    return f"{kind.__module__.split('.')[0]}/{kind.__name__}"
