"""Quality of service of the camera's topics: following the publisher, and explaining silence."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo

MOST_NAMES = 4
"""Topics or publishers that a message names."""

NOT_YET_NAMED = "_NODE_NAME_UNKNOWN_"
"""What rmw calls a node whose publisher was discovered before its name."""

OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def input_qos(reliability: str, depth: int, publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """QoS for a subscription by the name of its reliability: reliable, best_effort or auto.

    `auto` is reliable where there are publishers and all of them are: whole images arrive more
    often that way. Otherwise it is best effort, which fits every publisher.
    """
    if reliability == "auto":
        policies = {p.qos_profile.reliability for p in publishers}
        reliability = "reliable" if policies == {ReliabilityPolicy.RELIABLE} else "best_effort"
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy[reliability.upper()],
    )


def full_name(publisher: TopicEndpointInfo) -> str:
    """The name of a publisher's node, with its namespace; `(unnamed)` until it is discovered."""
    if publisher.node_name == NOT_YET_NAMED:
        return "(unnamed)"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def crowd(topic: str, publishers: Sequence[TopicEndpointInfo]) -> str:
    """Who publishes on `topic`, where they are several; else empty."""
    if len(publishers) < 2:
        return ""
    names = ", ".join(sorted(full_name(p) for p in publishers)[:MOST_NAMES])
    more = ", ..." if len(publishers) > MOST_NAMES else ""
    return f"{len(publishers)} publishers on {topic}: {names}{more}"


def explain_silence(
    topic: str,
    type_name: str,
    qos: QoSProfile,
    publishers: Sequence[TopicEndpointInfo],
    image_topics: Sequence[str],
) -> str:
    """Why no message may come on `topic`: nobody publishes, wrong type, QoS, or a silent camera.

    type_name: what is subscribed, as sensor_msgs/msg/Image. image_topics: topics of that type.
    """
    if not publishers:
        others = [name for name in image_topics if name != topic]
        shown = ", ".join(others[:MOST_NAMES]) + (", ..." if len(others) > MOST_NAMES else "")
        there = f"; images are published on {shown}" if others else ""
        return f"nobody publishes on {topic}: is the topic's name right{there}?"
    for publisher in publishers:
        who = full_name(publisher)
        if publisher.topic_type != type_name:
            return (
                f"{who} publishes {publisher.topic_type} on {topic}, not {type_name}: "
                "is image_transport right?"
            )
        compatible, reason = qos_check_compatible(publisher.qos_profile, qos)
        if compatible == QoSCompatibility.ERROR:
            return (
                f"the QoS of {who} on {topic} does not fit ours ({reason.strip()}): "
                "set input_reliability to auto or best_effort"
            )
    names = ", ".join(sorted({full_name(p) for p in publishers}))
    return (
        f"{topic} has a publisher whose QoS fits ({names}), but it sends nothing that arrives: "
        "is the camera running, are the images too large for the network?"
    )
