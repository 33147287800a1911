"""The launch file, run with a stand-in that records what it asks of ROS's launch library.

That library is not among the wheels. The stand-in has the few names that the file uses, with the
same arguments; what the file makes of its own arguments is the file's.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters

from ros_session import RosSession
from sam2vss_ros.config import OPTIONS
from small_sam2 import SMALL_SAM2


@dataclass
class Argument:
    name: str
    default_value: str
    description: str


@dataclass
class Opaque:
    function: Callable[[dict[str, str]], list[Any]]


@dataclass
class Configuration:
    name: str

    def perform(self, context: dict[str, str]) -> str:
        return context[self.name]


@dataclass
class Value:
    value: str
    value_type: type

    def yaml(self) -> str:
        return self.value.lower() if self.value_type is bool else f"'{self.value}'"


@dataclass
class Process:
    """launch_ros.actions.Node, as far as the launch file uses it."""

    package: str
    executable: str
    name: str = ""
    namespace: str = ""
    parameters: list[Any] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    ros_arguments: list[str] = field(default_factory=list)
    output: str = "log"
    emulate_tty: bool = False

    def command_line(self) -> list[str]:
        """What launch_ros makes of it."""
        path, overrides = self.parameters
        line = ["--ros-args", "--params-file", path, "-r", f"__node:={self.name}"]
        line += ["-r", f"__ns:=/{self.namespace}"] if self.namespace else []
        for name, value in overrides.items():
            text = json.dumps(value) if isinstance(value, list) else value.yaml()
            line += ["-p", f"{name}:={text}"]
        for source, target in self.remappings:
            line += ["-r", f"{source}:={target}"]
        return [*line, *self.ros_arguments]


@dataclass
class Launch:
    """The launch file's arguments, and `start`: what it starts when some of them are given."""

    arguments: list[Argument]
    nodes: Callable[[dict[str, str]], list[Process]]

    def start(self, **given: str) -> list[Process]:
        defaults = {a.name: a.default_value for a in self.arguments}
        assert set(given) <= set(defaults)
        return self.nodes(defaults | given)


@pytest.fixture
def launch(root: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    modules: dict[str, dict[str, Any]] = {
        "launch": {
            "LaunchContext": dict,
            "LaunchDescription": list,
            "LaunchDescriptionEntity": object,
        },
        "launch.actions": {
            "DeclareLaunchArgument": Argument,
            "OpaqueFunction": Opaque,
        },
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Process},
        "launch_ros.parameter_descriptions": {"ParameterValue": Value},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    file = runpy.run_path(str(root / "launch" / "vss.launch.py"))
    *arguments, opaque = file["generate_launch_description"]()
    return Launch(arguments, opaque.function)


def test_defaults(launch: Launch, root: Path) -> None:
    (vss,) = launch.start()
    assert (vss.package, vss.executable, vss.name, vss.namespace) == (
        "sam2vss_ros", "vss_node", "vss", "",
    )  # fmt: skip
    assert vss.parameters == [str(root / "config" / "vss.yaml"), {}]
    assert vss.remappings == [("image", "image_raw"), ("camera_info", "camera_info")]
    assert vss.ros_arguments == ["--log-level", "vss:=info"]
    assert vss.output == "screen"


def test_every_argument_is_described_and_has_an_effect(launch: Launch) -> None:
    before = launch.start()
    for argument in launch.arguments:
        assert len(argument.description) > 10, argument.name
        given = "true" if argument.default_value in ("", "false") else "other"
        assert launch.start(**{argument.name: given}) != before, argument.name


def test_parameters_overrule_the_file_only_where_given(launch: Launch) -> None:
    (vss,) = launch.start(params_file="/my.yaml", model="mine.yaml", use_sim_time="true")
    path, overrides = vss.parameters
    assert path == "/my.yaml"
    assert overrides == {"model": Value("mine.yaml", str), "use_sim_time": Value("true", bool)}
    types_of = {a.name: a for a in launch.arguments}
    for name in ("checkpoint", "device", "mode", "image_transport", "overload", "autostart"):
        assert name in OPTIONS
        ((_, one),) = launch.start(**{name: "true"})[0].parameters[1].items()
        assert one.value_type is type(OPTIONS[name][0])
        assert types_of[name].default_value == ""


def test_topics_of_a_camera(launch: Launch) -> None:
    (vss,) = launch.start(image="/front/image_raw", namespace="front")
    assert vss.remappings == [("image", "/front/image_raw"), ("camera_info", "/front/camera_info")]
    (vss,) = launch.start(image="/front/image_raw", camera_info="/calibration")
    assert vss.remappings[1] == ("camera_info", "/calibration")


def test_topics_of_several_cameras(launch: Launch) -> None:
    vss, *viewers = launch.start(cameras="front=/cams/a/image_raw, rear", overlay="true")
    assert vss.parameters[1] == {"cameras": ["front", "rear"]}
    assert vss.remappings == [
        ("front/image", "/cams/a/image_raw"),
        ("front/camera_info", "/cams/a/camera_info"),
        ("rear/image", "rear/image_raw"),
        ("rear/camera_info", "rear/camera_info"),
    ]
    assert [v.arguments for v in viewers] == [["/vss/front/overlay"], ["/vss/rear/overlay"]]


def test_overlay_opens_a_viewer(launch: Launch) -> None:
    vss, viewer = launch.start(overlay="true", namespace="robot/front", log_level="debug")
    assert (viewer.package, viewer.arguments) == ("rqt_image_view", ["/robot/front/vss/overlay"])
    assert vss.ros_arguments == ["--log-level", "robot.front.vss:=debug"]


def test_node_takes_what_the_launch_file_gives_it(
    ros: RosSession, launch: Launch, root: Path
) -> None:
    (vss,) = launch.start(
        namespace="front", name="eyes", cameras="left=/cam/image_raw,right", model=SMALL_SAM2,
        mode="refine", overload="all", autostart="false", log_level="warn",
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, root / "scripts" / vss.executable, *vss.command_line()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    try:
        watcher = ros.node("watcher")
        state = watcher.create_client(GetState, "/front/eyes/get_state")
        answer = ros.call(state, GetState.Request(), timeout=30)
        assert answer.current_state.label == "unconfigured"
        get = watcher.create_client(GetParameters, "/front/eyes/get_parameters")
        names = ["mode", "overload", "autostart", "keyframe_interval", "cameras"]
        mode, overload, autostart, interval, cameras = ros.call(
            get, GetParameters.Request(names=names)
        ).values
        assert list(cameras.string_array_value) == ["left", "right"]
        assert (mode.string_value, overload.string_value) == ("refine", "all")
        assert not autostart.bool_value
        assert interval.integer_value == OPTIONS["keyframe_interval"][0]
    finally:
        process.terminate()
        assert process.wait(20) == 0
