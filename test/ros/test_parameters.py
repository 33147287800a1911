"""Parameters: described, checked by name, changed while the node runs; the shipped YAML."""

from __future__ import annotations

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
