"""Starts the node vss for one camera.

    ros2 launch sam2vss_ros vss.launch.py image:=/front/image_raw

`ros2 launch sam2vss_ros vss.launch.py --show-args` lists the arguments. Several cameras: include
this file once for each, with a namespace of its own.
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
    beside = posixpath.join(posixpath.dirname(given["image"]), "camera_info")
    full_name = posixpath.join("/", given["namespace"], given["name"])
    logger = full_name.strip("/").replace("/", ".")
    vss = Node(
        package="sam2vss_ros",
        executable="vss_node",
        name=given["name"],
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=[("image", given["image"]), ("camera_info", given["camera_info"] or beside)],
        ros_arguments=["--log-level", f"{logger}:={given['log_level']}"],
        output="screen",
        emulate_tty=True,
    )
    if given["overlay"].lower() != "true":
        return [vss]
    viewer = Node(
        package="rqt_image_view", executable="rqt_image_view", arguments=[f"{full_name}/overlay"]
    )
    return [vss, viewer]
