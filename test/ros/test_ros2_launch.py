"""The launch file in ROS's own launch library, as `ros2 launch` starts it.

The wheels bring no `launch`; test_launch.py then stands in for these tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters

from ros_session import RosSession

pytest.importorskip("launch", reason="ROS's launch library is not installed; it is no wheel")
pytest.importorskip("launch_ros", reason="launch_ros is not installed; it is no wheel")

AS_ROS2_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
path, *arguments = sys.argv[1:]
sys.argv = ["ros2", "launch", "sam2vss_ros", "vss.launch.py", *arguments]
service = LaunchService(argv=arguments, noninteractive=True)
pairs = [argument.split(":=", 1) for argument in arguments]
source = AnyLaunchDescriptionSource(path)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=pairs)])
)
sys.exit(service.run())
"""


def launched(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process that launches the file with these arguments, and whose output is a pipe."""
    file = root / "launch" / "vss.launch.py"
    return subprocess.Popen(
        [sys.executable, "-c", AS_ROS2_LAUNCH, file, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("imgae:=/x", "vss.launch.py has no argument imgae: do you mean image?"),
        ("params_file:=/nowhere.yaml", "params_file: /nowhere.yaml does not exist"),
        ("mode:=fusd", "mode: 'fusd' is not one of refine, classify, fused, network"),
    ],
)
def test_what_is_wrong_stops_the_launch(root: Path, argument: str, said: str) -> None:
    process = launched(root, argument)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert said in output and "process started" not in output


def test_the_node_runs_as_told_and_ends_with_the_launch(ros: RosSession, root: Path) -> None:
    process = launched(
        root, "name:=eyes", "masks:=Car;people=Pedestrian,Bicyclist", "overlay:=true",
        "depth:=/depth/image_rect", "mode:=refine", "autostart:=false",
    )  # fmt: skip
    try:
        watcher = ros.node("watcher")
        state = watcher.create_client(GetState, "/eyes/get_state")
        answer = ros.ask(state, GetState.Request())
        assert answer.current_state.label == "unconfigured"
        get = watcher.create_client(GetParameters, "/eyes/get_parameters")
        mode, masks = ros.ask(get, GetParameters.Request(names=["mode", "masks"])).values
        assert mode.string_value == "refine"
        assert list(masks.string_array_value) == ["Car", "people=Pedestrian,Bicyclist"]
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        assert "process has finished cleanly" in output
        assert "the overlay is on /eyes/overlay" in output or "rqt_image_view" in output
    finally:
        process.kill()
        process.wait()
