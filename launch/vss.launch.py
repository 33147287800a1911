"""Starts the node vss for one camera, or for several that share its networks.

    ros2 launch sam2vss_ros vss.launch.py image:=/front/image_raw
    ros2 launch sam2vss_ros vss.launch.py cameras:=front=/front/image_raw,rear=/rear/image_raw

`ros2 launch sam2vss_ros vss.launch.py --show-args` lists the arguments.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from sam2vss_ros.config import OPTIONS

PARAMS_FILE = str(Path(__file__).resolve().parents[1] / "config" / "vss.yaml")

# Arguments that stand for a parameter and overrule the parameter file where they are given: the
# parameter's type and meaning.
PARAMETERS: dict[str, tuple[type, str]] = {
    name: (type(OPTIONS[name][0]), OPTIONS[name][1].meaning)
    for name in (
        "model",
        "checkpoint",
        "device",
        "mode",
        "image_transport",
        "overload",
        "autostart",
    )
}
PARAMETERS["use_sim_time"] = (bool, "true: time comes from /clock, as with a bag or a simulator")

OTHERS = {
    "image": ("image_raw", "topic of the camera's images"),
    "camera_info": ("", "topic of its calibration (empty: camera_info beside the images)"),
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
    "overlay": ("false", "true: also show the labels over the images, in rqt_image_view"),
    "log_level": ("info", "least severity of the node's messages: debug, info, warn, error"),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments and, once they are known, the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in OTHERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name, default_value="", description=f"{description} (not given: as in params_file)"
        )
        for name, (_, description) in PARAMETERS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """What to start for the arguments as they stand."""
    given = {name: LaunchConfiguration(name).perform(context) for name in (*OTHERS, *PARAMETERS)}
    overrides = {
        name: ParameterValue(given[name], value_type=kind)
        for name, (kind, _) in PARAMETERS.items()
        if given[name]
    }
    cameras = cameras_of(given["cameras"])
    if cameras:
        overrides["cameras"] = list(cameras)
        remappings = [
            (f"{name}/{ours}", theirs)
            for name, image in cameras.items()
            for ours, theirs in (("image", image), ("camera_info", beside(image)))
        ]
    else:
        info = given["camera_info"] or beside(given["image"])
        remappings = [("image", given["image"]), ("camera_info", info)]
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
    if given["overlay"].lower() != "true":
        return [vss]
    viewers = [
        Node(
            package="rqt_image_view",
            executable="rqt_image_view",
            arguments=[posixpath.join(full_name, camera, "overlay")],
        )
        for camera in cameras or ("",)
    ]
    return [vss, *viewers]


def cameras_of(text: str) -> dict[str, str]:
    """Name -> image topic of the cameras in `front=/front/image_raw,rear`."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    return {name: topic or f"{name}/image_raw" for name, _, topic in pairs}


def beside(image: str) -> str:
    """The usual topic of the calibration for a topic of images."""
    return posixpath.join(posixpath.dirname(image), "camera_info")
