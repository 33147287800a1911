"""Starts the node vss for one camera, or for several that share its networks.

    ros2 launch sam2vss_ros vss.launch.py image:=/front/image_raw
    ros2 launch sam2vss_ros vss.launch.py cameras:=front=/front/image_raw,rear=/rear/image_raw

`ros2 launch sam2vss_ros vss.launch.py --show-args` lists the arguments. One that does not exist, a
value that does not do and a missing parameter file stop the launch.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from sam2vss_ros.config import OPTIONS
from sam2vss_ros.options import boolean, check
from sam2vss_ros.spelling import nearest

T = TypeVar("T")

PARAMS_FILE = str(Path(__file__).resolve().parents[1] / "config" / "vss.yaml")
VIEWER = "rqt_image_view"

PARAMETERS = (
    "model",
    "checkpoint",
    "semantics",
    "classes",
    "network",
    "network_classes",
    "class_map",
    "masks",
    "vocabulary",
    "text_model",
    "templates",
    "device",
    "mode",
    "image_transport",
    "depth_transport",
    "overload",
    "autostart",
)
"""Arguments that stand for a parameter and overrule the parameter file where they are given."""

OTHERS = {
    "image": ("image_raw", "topic of the camera's images"),
    "camera_info": ("", "topic of its calibration (empty: camera_info beside the images)"),
    "depth": (
        "",
        "topic of depth registered to the images, with camera_info beside it (empty: depth); of "
        "several cameras front=/front/depth/image_raw,rear=/rear/depth/image_raw",
    ),
    "cameras": (
        "",
        "several cameras instead, as in front=/front/image_raw,rear=/rear/image_raw: their names, "
        "which their topics begin with, and the topics of their images (a name alone: "
        "<name>/image_raw), with camera_info beside them",
    ),
    "namespace": (
        "",
        "namespace of the node and of relative topics, as the camera's name",
    ),
    "name": ("vss", "name of the node, and so of its topics: <namespace>/<name>/label_image"),
    "params_file": (PARAMS_FILE, "YAML file with the node's parameters"),
    "use_sim_time": ("", "true: time comes from /clock, as with a bag or a simulator"),
    "overlay": ("false", "true: also show the labels over the images, in rqt_image_view"),
    "log_level": ("info", "least severity of the node's messages: debug, info, warn, error"),
}

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")

OF_LAUNCH = ("launch-prefix", "launch-prefix-filter")
"""What `ros2 launch` itself may add to the arguments."""


def generate_launch_description() -> LaunchDescription:
    """The arguments and, once they are known, the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in OTHERS.items()
    ]
    for name in PARAMETERS:
        default, option = OPTIONS[name]
        several = " ; divides entries" if isinstance(default, tuple) else ""
        arguments.append(
            DeclareLaunchArgument(
                name,
                default_value="",
                description=f"{option.meaning}{several} (not given: as in params_file)",
            )
        )
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """What to start for the arguments as they stand. Raises RuntimeError where one is wrong."""
    refuse_strangers(context)
    given = {name: LaunchConfiguration(name).perform(context) for name in (*OTHERS, *PARAMETERS)}
    if not Path(given["params_file"]).is_file():
        raise RuntimeError(f"params_file: {given['params_file']} does not exist, or is no file")
    overrides = overrides_of(given)
    if given["log_level"].lower() not in LOG_LEVELS:
        levels = ", ".join(LOG_LEVELS)
        raise RuntimeError(f"log_level: {given['log_level']} is not one of {levels}")
    cameras = topics_of(given["cameras"])
    remappings = remappings_of_several(given, cameras) if cameras else remappings_of_one(given)
    if cameras:
        overrides["cameras"] = checked("cameras", list(cameras))
    full_name = posixpath.join("/", given["namespace"], given["name"])
    logger = full_name.strip("/").replace("/", ".")
    vss = Node(
        package="sam2vss_ros",
        executable="vss_node",
        name=given["name"],
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=remappings,
        ros_arguments=["--log-level", f"{logger}:={given['log_level']}"],
        output="screen",
        emulate_tty=True,
    )
    overlays = [posixpath.join(full_name, camera, "overlay") for camera in cameras or ("",)]
    return [vss, *viewers(overlays)] if is_true("overlay", given) else [vss]


def refuse_strangers(context: LaunchContext) -> None:
    """Raise RuntimeError for an argument that does not exist, which ROS passes over in silence.

    Where another launch file includes this one, what was typed are the arguments of that one.
    """
    here = Path(__file__).name
    started = [word for word in sys.argv if ".launch." in word or word.endswith(".launch")]
    if started and not any(Path(word).name == here for word in started):
        return
    known = (*OTHERS, *PARAMETERS)
    for word in context.argv:
        name, is_argument, _ = word.partition(":=")
        if is_argument and name not in (*known, *OF_LAUNCH):
            meant = nearest(name, known)
            hint = f"do you mean {meant}?" if meant else f"there are {', '.join(known)}"
            raise RuntimeError(f"{here} has no argument {name}: {hint}")


def overrides_of(given: Mapping[str, str]) -> dict[str, object]:
    """The parameters that are given as arguments. Raises RuntimeError for a value that is none."""
    overrides: dict[str, object] = {}
    for name in PARAMETERS:
        default, text = OPTIONS[name][0], given[name]
        if not text:
            continue
        if isinstance(default, tuple):
            overrides[name] = checked(name, entries(text))
        else:
            value = checked(name, is_true(name, given) if isinstance(default, bool) else text)
            overrides[name] = ParameterValue(value, value_type=type(default))
    if given["use_sim_time"]:
        sim_time = is_true("use_sim_time", given)
        overrides["use_sim_time"] = ParameterValue(sim_time, value_type=bool)
    return overrides


def checked(name: str, value: T) -> T:
    """A value of a parameter. Raises RuntimeError where it is none."""
    try:
        check(name, value, *OPTIONS[name])
    except (TypeError, ValueError) as error:
        raise RuntimeError(str(error)) from error
    return value


def remappings_of_one(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Where the topics of the only camera are."""
    image, info, depth = given["image"], given["camera_info"], given["depth"]
    remappings = [("image", image), ("camera_info", info or beside(image))]
    return remappings + (depth_remappings("", depth) if depth else [])


def remappings_of_several(
    given: Mapping[str, str], cameras: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Where the topics of named cameras are. Raises RuntimeError for depth of an unknown one."""
    remappings: list[tuple[str, str]] = []
    for name, topic in cameras.items():
        image = topic or f"{name}/image_raw"
        remappings += [(f"{name}/image", image), (f"{name}/camera_info", beside(image))]
    for name, depth in topics_of(given["depth"]).items():
        if name not in cameras or not depth:
            raise RuntimeError(
                f"depth: {name} is no camera and its topic, as in "
                f"{next(iter(cameras))}=/depth/image_raw; cameras are {', '.join(cameras)}"
            )
        remappings += depth_remappings(f"{name}/", depth)
    return remappings


def depth_remappings(prefix: str, topic: str) -> list[tuple[str, str]]:
    """Where a camera's depth and its calibration are."""
    return [(f"{prefix}depth", topic), (f"{prefix}depth/camera_info", beside(topic))]


def viewers(overlays: list[str]) -> list[LaunchDescriptionEntity]:
    """A window for each overlay; where there is no viewer, a line that says so."""
    try:
        get_package_prefix(VIEWER)
    except PackageNotFoundError:
        package = VIEWER.replace("_", "-")
        told = (
            f"overlay: {VIEWER} is not installed (apt install ros-$ROS_DISTRO-{package}); the "
            f"overlay is on {', '.join(overlays)}"
        )
        return [LogInfo(msg=told)]
    return [Node(package=VIEWER, executable=VIEWER, arguments=[topic]) for topic in overlays]


def is_true(name: str, given: Mapping[str, str]) -> bool:
    """An argument that is true or false. Raises RuntimeError."""
    try:
        return boolean(given[name])
    except ValueError as error:
        raise RuntimeError(f"{name}: {error}") from error


def entries(text: str) -> list[str]:
    """The entries of `Car,Tree` or, where one has = and commas of its own, `Car;people=A,B`."""
    parts = [part.strip() for part in text.split(";")]
    split = [[part] if "=" in part else part.split(",") for part in parts]
    return [entry.strip() for some in split for entry in some if entry.strip()]


def topics_of(text: str) -> dict[str, str]:
    """Name -> topic, empty where none is given, in `front=/front/image_raw,rear`."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    return {name: topic for name, _, topic in pairs}


def beside(image: str) -> str:
    """The usual topic of the calibration for a topic of images."""
    return posixpath.join(posixpath.dirname(image), "camera_info")
