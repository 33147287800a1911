"""The README's tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from bench import Start

from ros_session import RosSession
from sam2vss_ros.ros.parameters import OPTIONS

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under one heading, up to the next of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title}"
    return found[1]


def test_parameters_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (\w*) ?\| (.*?) \|$", section("Parameters"), re.M)
    told = {name: (default, live == "yes", text) for name, default, live, text in rows}
    real = {}
    for name, (default, option) in OPTIONS.items():
        shown = '""' if default == "" else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        real[name] = (shown, option.live, option.description.replace("|", "/"))
    assert told == real


def test_topics_and_services_are_those_of_the_node(ros: RosSession, start: Start) -> None:
    bench = start()
    bench.active()
    rows = re.findall(r"^\| (in|out) \| `(.+?)` \| `(.+?)` \|", section("Topics"), re.M)
    told = {
        name.replace("~", "/vss"): kind
        for direction, name, kind in rows
        if direction == "out" and kind != "vision_msgs/LabelInfo"
    }

    def published() -> dict[str, str]:
        own = bench.ears.get_publisher_names_and_types_by_node("vss", "/")
        return {
            name: types[0].replace("/msg/", "/")
            for name, types in own
            if name.startswith("/vss/") and "transition_event" not in name or name == "/diagnostics"
        }

    # Discovery takes a moment after the node says it is active.
    ros.wait_until(lambda: len(published()) >= len(told), "the node's publishers")
    assert told == published()
    services = re.findall(r"^\| `~/(\w+)` \| `(.+?)` \|", section("Topics"), re.M)
    ros.wait_until(
        lambda: (
            "/vss/remove_object" in dict(bench.ears.get_service_names_and_types_by_node("vss", "/"))
        ),
        "the node's services",
    )
    offered = dict(bench.ears.get_service_names_and_types_by_node("vss", "/"))
    for name, kind in services:
        assert [t.replace("/srv/", "/") for t in offered[f"/vss/{name}"]] == [kind]
    ours = [t for types in offered.values() for t in types if t.startswith(("sam2vss", "std_srvs"))]
    assert len(ours) == len(services)
