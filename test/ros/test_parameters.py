"""Parameters: described, checked by name, changed while the node runs; the shipped YAML."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters
from sensor_msgs.msg import Image

from harness import Harness, Start
from ros_session import RosSession
from sam2vss_ros.config import OPTIONS, PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.node import VssNode


def describe(bench: Harness, *names: str) -> list[ParameterDescriptor]:
    client = bench.ears.create_client(DescribeParameters, "/vss/describe_parameters")
    return list(bench.ros.call(client, DescribeParameters.Request(names=names)).descriptors)


def value_of(bench: Harness, name: str) -> Any:
    client = bench.ears.create_client(GetParameters, "/vss/get_parameters")
    (value,) = bench.ros.call(client, GetParameters.Request(names=[name])).values
    kinds = {
        ParameterType.PARAMETER_DOUBLE: "double_value",
        ParameterType.PARAMETER_INTEGER: "integer_value",
    }
    return getattr(value, kinds.get(value.type, "string_value"))


def test_every_option_is_described(start: Start) -> None:
    bench = start(autostart=False)
    bench.spin()
    for name, found in zip(OPTIONS, describe(bench, *OPTIONS), strict=True):
        default, limits = OPTIONS[name]
        assert found.description == limits.description
        assert found.read_only == (name == "autostart")
        for choice in limits.choices:
            assert choice in found.additional_constraints
        if name != "autostart":
            assert ("at once" in found.additional_constraints) == limits.live
        if limits.low is not None and type(default) is int:
            (bounds,) = found.integer_range
            assert (bounds.from_value, bounds.to_value) == (limits.low, limits.high)
        elif limits.low is not None:
            (bounds,) = found.floating_point_range
            assert (bounds.from_value, bounds.to_value) == (limits.low, limits.high)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_objects", -1, "max_objects: -1 is outside 0 to 256"),
        ("max_objects", "many", "max_objects: 'many' is a str, it takes a int"),
        ("max_objects", 3.5, "max_objects: 3.5 is a float, it takes a int"),
        ("mode", "best", "mode: 'best' is not one of refine, classify, fused"),
        ("overload", "some", "overload: 'some' is not one of latest, all"),
        ("min_area", 1.5, "min_area: 1.5 is outside 0.0 to 1.0"),
        ("autostart", "yes", "autostart: 'yes' is a str, it takes a bool"),
    ],
)
def test_wrong_value_at_the_start(start: Start, name: str, value: object, said: str) -> None:
    bench = start(**{name: value})
    bench.wait_for_log("cannot configure")
    assert said in bench.log
    assert bench.state() == "unconfigured"


def test_all_wrong_values_are_named_and_can_be_corrected(start: Start) -> None:
    bench = start(max_objects=-1, mode="best")
    bench.wait_for_log("cannot configure")
    assert "mode: 'best'" in bench.log
    assert "max_objects: -1 is outside 0 to 256" in bench.log
    assert bench.set(max_objects=4)[0].successful
    assert not bench.change("configure")
    assert bench.set(mode="refine")[0].successful
    assert bench.change("configure")


def test_whole_numbers_do_for_floats(start: Start) -> None:
    bench = start(min_area=0, no_image_warning=7)
    bench.active()
    assert bench.set(belief_memory=0)[0].successful


def test_misspelt_parameter_is_noticed(start: Start) -> None:
    bench = start(max_object=3)
    bench.wait_for_log("no parameter max_object: do you mean max_objects?")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("min_area", 2.0, "min_area"),
        ("min_area", "small", "min_area: 'small' is a str, it takes a float"),
        ("mode", "best", "mode: 'best' is not one of refine, classify, fused"),
        ("mode", 3, "mode: 3 is a int, it takes a str"),
        ("max_objects", 20, "max_objects: is read when the node is configured"),
        ("model", "sam2.1_hiera_tiny", "model: is read when the node is configured"),
        ("autostart", False, "read-only parameter: autostart"),
    ],
)
def test_change_that_is_refused(start: Start, name: str, value: object, said: str) -> None:
    bench = start().active()
    (result,) = bench.set(**{name: value})
    assert not result.successful
    assert said in result.reason
    bench.send(0)
    bench.wait_for_value("frames processed", "1")


def test_unchanged_value_is_accepted(start: Start) -> None:
    """So that `ros2 param load` of a whole file works on a running node."""
    bench = start(max_objects=5).active()
    assert bench.set(max_objects=5)[0].successful


def test_live_options_reach_the_running_pipeline(start: Start) -> None:
    made: list[VssPipeline] = []

    def remember(perception: Perception, config: PipelineConfig) -> VssPipeline:
        made.append(VssPipeline(perception, config))
        return made[-1]

    bench = start(remember).active()
    bench.send(0)
    bench.wait_for_value("frames processed", "1")
    assert bench.set(mode="refine", keyframe_interval=7)[0].successful
    bench.send(100)
    bench.wait_for_value("frames processed", "2")
    assert (made[0].config.mode, made[0].config.keyframe_interval) == ("refine", 7)
    # They outlive a deactivation, as does a change made meanwhile.
    assert bench.change("deactivate")
    assert bench.set(confirm_frames=3)[0].successful
    assert bench.change("activate")
    config = made[1].config
    assert (config.mode, config.keyframe_interval, config.confirm_frames) == ("refine", 7, 3)
    assert value_of(bench, "keyframe_interval") == 7


def test_others_can_change_after_a_cleanup(start: Start) -> None:
    bench = start().active()
    assert bench.change("deactivate")
    assert not bench.set(overload="all")[0].successful
    assert bench.change("cleanup")
    assert bench.set(overload="all")[0].successful
    assert bench.change("configure")
    bench.wait_for_value("overload", "all")


def test_the_shipped_parameter_file_is_accepted(ros: RosSession, root: Path) -> None:
    path = root / "config" / "vss.yaml"
    node = VssNode(
        context=ros.context,
        cli_args=["--ros-args", "--params-file", str(path), "-p", "autostart:=false"],
    )
    ros.add(node)
    assert node.trigger_configure().name == "SUCCESS"


def test_namespace_and_remapping(ros: RosSession) -> None:
    node = ros.add(
        VssNode(
            context=ros.context,
            namespace="/front",
            cli_args=["--ros-args", "-r", "image:=/camera/image_raw"],
        )
    )
    ros.wait_until(
        lambda: "/camera/image_raw" in [s.topic_name for s in node.subscriptions],
        "the subscription",
    )
    assert "/front/vss/label_image" in [p.topic_name for p in node.publishers]
    assert [p.msg_type for p in node.publishers if p.topic_name == "/front/vss/overlay"] == [Image]


def node_of(ros: RosSession, *arguments: str) -> VssNode:
    """The node with this command line, not configured."""
    given = ["--ros-args", "-p", "autostart:=false", *arguments]
    node: VssNode = ros.add(VssNode(context=ros.context, cli_args=given))
    return node


@pytest.mark.parametrize("word", ["off", "no", "false", "'off'"])
def test_discovery_that_yaml_takes_for_a_bool(ros: RosSession, tmp_path: Path, word: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    discovery: {word}\n")
    for given in (["--params-file", str(path)], ["-p", f"discovery:={word}"]):
        if word == "'off'" and given[0] == "-p":
            continue  # the shell's quotes, not YAML's
        node = node_of(ros, *given)
        assert node.get_parameter("discovery").value == "off"
        assert node.trigger_configure().name == "SUCCESS"
        ros.remove(node)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("discovery:=on", "discovery: True is a bool, it takes a str: one of auto, regions"),
        ("model:=1", "model: 1 is a int, it takes a str: one of mobile, sam2.1_hiera_tiny"),
        ("overload:=no", "overload: False is a bool, it takes a str: one of latest, all (YAML"),
        ("device:=0", "device: 0 is a int, it takes a str (put it in quotes)"),
        ("cameras:=[1, 2]", "cameras: 1 is no name"),
        ("cameras:=[true]", "cameras: True is no name"),
        ("cameras:=front", "cameras: 'front' is a str, it takes a list of names"),
    ],
)
def test_values_that_yaml_makes_of_words(
    ros: RosSession, capfd: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    assert node_of(ros, "-p", given).trigger_configure().name == "FAILURE"
    assert said in capfd.readouterr().err


def test_every_name_that_is_no_parameter_is_told(
    ros: RosSession, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In a file and on the command line; those that every node may be given are none of them."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "vss:\n  ros__parameters:\n    camera: {fps: 15, topic: /image}\n    modle: mobile\n"
        "    use_sim_time: false\n    qos_overrides: {/parameter_events: {publisher: {depth: 9}}}\n"
    )
    node = node_of(ros, "--params-file", str(path), "-p", "max_object:=3", "-p", "weights:=a.pt")
    told = [line.partition("[vss]: ")[2] for line in capfd.readouterr().err.splitlines()]
    assert sorted(told) == [
        "no parameter camera.fps (they have no groups): do you mean target_fps?",
        "no parameter camera.topic (they have no groups): do you mean cameras?",
        "no parameter max_object: do you mean max_objects?",
        "no parameter modle: do you mean model?",
        "no parameter weights: `sam2vss config table` lists all there are",
    ]
    assert not node.has_parameter("modle") and node.has_parameter("use_sim_time")


def test_many_strange_names_are_told_in_few_words(
    ros: RosSession, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [word for i in range(50) for word in ("-p", f"{'q' * 500}{i}:=1")]
    node_of(ros, *given)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 11 and all(len(line) < 250 for line in lines)
    assert "40 more names are no parameters either" in lines[-1]


@pytest.mark.parametrize(
    ("section", "taken"),
    [
        ("vss", True),
        ("/vss", True),
        ("/**", True),
        ("/*", True),
        ("/**/vss", True),
        ("vss_node", False),
        ("/front/vss", False),
        ("/*/vss", False),
    ],
)
def test_a_file_for_another_node_is_told(
    ros: RosSession, capfd: pytest.CaptureFixture[str], tmp_path: Path, section: str, taken: bool
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}:\n  ros__parameters:\n    max_objects: 3\n")
    node = node_of(ros, "--params-file", str(path))
    assert node.get_parameter("max_objects").value == (3 if taken else 0)
    place = "/" + section.strip("/")
    said = (
        f"nothing is taken from it, it is for {place}; this node is /vss: write /vss or /** there"
    )
    assert (said in capfd.readouterr().err) == (not taken)


def test_a_file_for_several_nodes_is_fine(
    ros: RosSession, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(
        "driver:\n  ros__parameters:\n    fps: 15\nfront:\n  vss:\n    ros__parameters:\n"
        "      max_objects: 3\n"
    )
    given = ["--ros-args", "--params-file", str(path), "-p", "autostart:=false"]
    node = ros.add(VssNode(context=ros.context, namespace="/front", cli_args=given))
    assert node.get_parameter("max_objects").value == 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-p", "cameras:=[a, 1]"], "Sequence should be of same type"),
        (["--params-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--nonsense", "x"], "--nonsense"),
    ],
)
def test_a_command_line_that_rcl_cannot_read(arguments: list[str], said: str) -> None:
    """A line, and no traceback."""
    done = subprocess.run(
        ["vss_node", "--ros-args", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "/src/" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("vss_node: error: the command line: ")
    assert said in done.stderr.splitlines()[-1]


def test_options_of_another_command_are_told() -> None:
    """They are those of `sam2vss`, and the node has none."""
    command = ["vss_node", "--model", "mobile", "--ros-args", "-p", "autostart:=false"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        line = node.stderr.readline()
        node.kill()
    assert (
        "not read from the command line: --model mobile; a parameter is given as --ros-args" in line
    )
