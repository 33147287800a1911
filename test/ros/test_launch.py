"""The launch file, run with a stand-in that records what it asks of ROS's launch library.

That library is not among the wheels. The stand-in has the few names that the file uses, with the
same arguments; what the file makes of its own arguments is the file's. Where ROS brings the
library, test_ros2_launch.py starts the file as `ros2 launch` does.
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
class Context:
    """What is known when nodes are made: the arguments, and what was typed."""

    values: dict[str, str]
    argv: list[str]


@dataclass
class Opaque:
    function: Callable[[Context], list[Any]]


@dataclass
class Configuration:
    name: str

    def perform(self, context: Context) -> str:
        return context.values[self.name]


@dataclass
class Told:
    msg: str


@dataclass
class Value:
    value: str | bool
    value_type: type

    def __post_init__(self) -> None:
        assert type(self.value) is self.value_type  # as launch_ros has it

    def yaml(self) -> str:
        return str(self.value).lower() if self.value_type is bool else f"'{self.value}'"


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
    nodes: Callable[[Context], list[Any]]

    def start(self, **given: str) -> list[Any]:
        defaults = {a.name: a.default_value for a in self.arguments}
        typed = [f"{name}:={value}" for name, value in given.items()]
        return self.nodes(Context(defaults | given, typed))


@pytest.fixture
def launch(root: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    modules: dict[str, dict[str, Any]] = {
        "launch": {
            "LaunchContext": Context,
            "LaunchDescription": list,
            "LaunchDescriptionEntity": object,
        },
        "launch.actions": {
            "DeclareLaunchArgument": Argument,
            "LogInfo": Told,
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


GIVEN = {
    "params_file": "PARAMS", "log_level": "debug", "mode": "refine", "overload": "all",
    "image_transport": "compressed", "depth_transport": "compressedDepth", "masks": "Car;a=Tree",
    "templates": "a {}",
}  # fmt: skip
"""Values of arguments that take no other."""


def test_every_argument_is_described_and_has_an_effect(launch: Launch, tmp_path: Path) -> None:
    before = launch.start()
    mine = tmp_path / "my.yaml"
    mine.touch()
    for argument in launch.arguments:
        assert len(argument.description) > 10, argument.name
        other = "true" if argument.name in ("autostart", "use_sim_time", "overlay") else "mobile"
        value = GIVEN.get(argument.name, other).replace("PARAMS", str(mine))
        assert launch.start(**{argument.name: value}) != before, argument.name


def test_parameters_overrule_the_file_only_where_given(launch: Launch, tmp_path: Path) -> None:
    mine = tmp_path / "my.yaml"
    mine.touch()
    (vss,) = launch.start(params_file=str(mine), model="mine.yaml", use_sim_time="true")
    path, overrides = vss.parameters
    assert path == str(mine)
    assert overrides == {"model": Value("mine.yaml", str), "use_sim_time": Value(True, bool)}
    (vss,) = launch.start(semantics="my.safetensors", network="city.onnx", classes="mine.yaml",
                          class_map="cityscapes_to_camvid", autostart="false")  # fmt: skip
    assert {name: value.value for name, value in vss.parameters[1].items()} == {
        "semantics": "my.safetensors", "network": "city.onnx", "classes": "mine.yaml",
        "class_map": "cityscapes_to_camvid", "autostart": False,
    }  # fmt: skip
    names = {a.name for a in launch.arguments}
    assert {"semantics", "network", "classes", "class_map", "cameras", "depth", "masks"} <= names


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("Car", ["Car"]),
        ("Car, Tree", ["Car", "Tree"]),
        ("people=Pedestrian,Bicyclist", ["people=Pedestrian,Bicyclist"]),
        ("Car; people=Pedestrian,Bicyclist ;Tree", ["Car", "people=Pedestrian,Bicyclist", "Tree"]),
    ],
)
def test_lists_of_masks(launch: Launch, text: str, entries: list[str]) -> None:
    assert launch.start(masks=text)[0].parameters[1] == {"masks": entries}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"imgae": "/x"}, "vss.launch.py has no argument imgae: do you mean image?"),
        ({"zzz": "/x"}, "vss.launch.py has no argument zzz: there are image, camera_info, depth"),
        ({"params_file": "/nowhere/vss.yaml"}, "params_file: /nowhere/vss.yaml does not exist"),
        ({"mode": "fusd"}, "mode: 'fusd' is not one of refine, classify, fused, network"),
        ({"overlay": "yes"}, "overlay: yes is neither true nor false"),
        ({"use_sim_time": "1"}, "use_sim_time: 1 is neither true nor false"),
        ({"autostart": "no"}, "autostart: no is neither true nor false"),
        ({"masks": "people="}, "masks: 'people=': a class is missing"),
        ({"log_level": "loud"}, "log_level: loud is not one of debug, info, warn, error, fatal"),
        ({"cameras": "1st=/a"}, "cameras: '1st' is no name"),
        ({"cameras": "a,b", "depth": "c=/d"}, "depth: c is no camera and its topic"),
        ({"cameras": "a,b", "depth": "/d"}, "depth: /d is no camera and its topic, as in a=/depth"),
    ],
)
def test_what_is_wrong_stops_the_launch(launch: Launch, given: dict[str, str], said: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        launch.start(**given)
    assert str(caught.value).startswith(said)


def test_arguments_of_a_launch_file_that_includes_ours_are_its_own(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "robot", "robot.launch.py", "arm:=left"])
    assert len(launch.start(arm="left")) == 1
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "sam2vss_ros", "vss.launch.py"])
    with pytest.raises(RuntimeError, match="no argument arm"):
        launch.start(arm="left")
    assert len(launch.start(**{"launch-prefix": "nice"})) == 1  # an option of ros2 launch


def test_topics_of_a_camera(launch: Launch) -> None:
    (vss,) = launch.start(image="/front/image_raw", namespace="front")
    assert vss.remappings == [("image", "/front/image_raw"), ("camera_info", "/front/camera_info")]
    (vss,) = launch.start(image="/front/image_raw", camera_info="/calibration")
    assert vss.remappings[1] == ("camera_info", "/calibration")


def test_topics_of_depth(launch: Launch) -> None:
    (vss,) = launch.start(depth="/front/depth/image_rect")
    assert vss.remappings[2:] == [
        ("depth", "/front/depth/image_rect"),
        ("depth/camera_info", "/front/depth/camera_info"),
    ]
    (vss,) = launch.start(cameras="front,rear", depth="rear=/rear/depth/image_rect")
    assert vss.remappings[4:] == [
        ("rear/depth", "/rear/depth/image_rect"),
        ("rear/depth/camera_info", "/rear/depth/camera_info"),
    ]


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rqt_image_view, as far as the index of packages knows."""
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "rqt_image_view").touch()
    path = os.pathsep.join([str(tmp_path), os.environ["AMENT_PREFIX_PATH"]])
    monkeypatch.setenv("AMENT_PREFIX_PATH", path)


def test_topics_of_several_cameras(launch: Launch, viewer: None) -> None:
    vss, *viewers = launch.start(cameras="front=/cams/a/image_raw, rear", overlay="true")
    assert vss.parameters[1] == {"cameras": ["front", "rear"]}
    assert vss.remappings == [
        ("front/image", "/cams/a/image_raw"),
        ("front/camera_info", "/cams/a/camera_info"),
        ("rear/image", "rear/image_raw"),
        ("rear/camera_info", "rear/camera_info"),
    ]
    assert [v.arguments for v in viewers] == [["/vss/front/overlay"], ["/vss/rear/overlay"]]


def test_without_a_viewer_the_launch_says_where_the_overlay_is(launch: Launch) -> None:
    vss, told = launch.start(overlay="true", namespace="front")
    assert vss.executable == "vss_node"
    assert told.msg == (
        "overlay: rqt_image_view is not installed (apt install ros-$ROS_DISTRO-rqt-image-view); "
        "the overlay is on /front/vss/overlay"
    )


def test_overlay_opens_a_viewer(launch: Launch, viewer: None) -> None:
    vss, window = launch.start(overlay="true", namespace="robot/front", log_level="debug")
    assert (window.package, window.arguments) == ("rqt_image_view", ["/robot/front/vss/overlay"])
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
        answer = ros.ask(state, GetState.Request())
        assert answer.current_state.label == "unconfigured"
        get = watcher.create_client(GetParameters, "/front/eyes/get_parameters")
        names = ["mode", "overload", "autostart", "keyframe_interval", "cameras"]
        mode, overload, autostart, interval, cameras = ros.ask(
            get, GetParameters.Request(names=names)
        ).values
        assert list(cameras.string_array_value) == ["left", "right"]
        assert (mode.string_value, overload.string_value) == ("refine", "all")
        assert not autostart.bool_value
        assert interval.integer_value == OPTIONS["keyframe_interval"][0]
    finally:
        process.terminate()
        assert process.wait(20) == 0
