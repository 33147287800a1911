"""Publishers in words."""

from __future__ import annotations

from rclpy.topic_endpoint_info import TopicEndpointInfo

from sam2vss_ros.ros.qos import crowd, full_name


def publisher(name: str, namespace: str = "/") -> TopicEndpointInfo:
    return TopicEndpointInfo(node_name=name, node_namespace=namespace)


def test_a_publisher_is_named_in_full() -> None:
    assert full_name(publisher("camera")) == "/camera"
    assert full_name(publisher("camera", "/front")) == "/front/camera"


def test_a_node_that_is_not_discovered_yet_is_unnamed() -> None:
    unknown = publisher("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")
    assert crowd("/image", [publisher("camera"), unknown]) == (
        "2 publishers on /image: (unnamed), /camera"
    )
