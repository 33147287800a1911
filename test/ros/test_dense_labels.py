"""Label images of another node: matched by stamp, waited for, missed and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from harness import HEIGHT, RELIABLE, WIDTH, Harness, Start, header
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.ros.labels import MOST_WAITING

ROAD, CAR = 3, 8


class Network:
    """A node that labels images, upper half cars and lower half road, when the test says so."""

    def __init__(self, bench: Harness, qos: QoSProfile = RELIABLE) -> None:
        self._bench = bench
        self._publisher = bench.ros.node("network").create_publisher(Image, "dense_labels", qos)

    def ready(self) -> Network:
        self._bench.ros.wait_until(
            lambda: self._publisher.get_subscription_count() == 1, "a subscriber of dense_labels"
        )
        return self

    def send(self, milliseconds: int, upper: int = CAR, dtype: type = np.uint8) -> None:
        labels: np.ndarray = np.full((HEIGHT // 2, WIDTH // 2), ROAD, dtype)
        labels[: HEIGHT // 4] = upper
        encoding = "mono8" if dtype is np.uint8 else "mono16"
        self._publisher.publish(image_message(labels, encoding, header(milliseconds)))

    def send_message(self, message: Image) -> None:
        self._publisher.publish(message)


def start_with_network(start: Start, **parameters: Any) -> tuple[Harness, Network, list[Image]]:
    bench = start(**{"network": "topic", "mode": "network", "network_timeout": 20.0} | parameters)
    labels = bench.record("/vss/label_image", Image)
    network = Network(bench)
    bench.active()
    return bench, network.ready(), labels


def halves(message: Image) -> tuple[int, int]:
    """The label in the middle of the upper and of the lower half."""
    image = np.asarray(message.data).reshape(message.height, message.width)
    return int(image[HEIGHT // 4, WIDTH // 2]), int(image[3 * HEIGHT // 4, WIDTH // 2])


@pytest.mark.parametrize("first", ["image", "labels"])
def test_an_image_meets_its_labels_whichever_comes_first(start: Start, first: str) -> None:
    bench, network, labels = start_with_network(start)
    for milliseconds, upper in ((100, CAR), (200, 5)):
        if first == "image":
            bench.send(milliseconds)
            bench.wait_for_value("frames in", str(milliseconds // 100))
        network.send(milliseconds, upper, np.uint16)
        if first == "labels":
            bench.send(milliseconds)
        answer = bench.wait_for_answer(labels, milliseconds)
        assert halves(answer) == (upper, ROAD)
        assert (answer.height, answer.width) == (HEIGHT, WIDTH)
    assert "frames without labels" not in bench.diagnostics()
    assert bench.diagnostics()["network"] == "topic"
    assert "network p50 (ms)" in bench.diagnostics()


def test_labels_come_in_every_encoding_that_holds_ids(start: Start) -> None:
    """Ids below zero are no class; colours are refused by name."""
    bench, network, labels = start_with_network(start)
    ids: np.ndarray = np.full((HEIGHT // 2, WIDTH // 2), ROAD, np.int32)
    ids[: HEIGHT // 4] = CAR
    messages = {
        "32SC1": ids,
        "16SC1": ids.astype(np.int16),
        "rgb8": np.dstack([ids] * 3).astype(np.uint8),
        "bgra8": np.dstack([ids] * 3 + [np.full_like(ids, 255)]).astype(np.uint8),
    }
    for i, (encoding, pixels) in enumerate(messages.items()):
        network.send_message(image_message(pixels, encoding, header(100 * i)))
        bench.send(100 * i)
        assert halves(bench.wait_for_answer(labels, 100 * i)) == (CAR, ROAD), encoding
    ids[: HEIGHT // 4] = -1
    network.send_message(image_message(ids, "32SC1", header(1000)))
    bench.send(1000)
    assert halves(bench.wait_for_answer(labels, 1000)) == (255, ROAD)
    colours = np.full((HEIGHT, WIDTH, 3), (1, 2, 3), np.uint8)
    network.send_message(image_message(colours, "rgb8", header(1100)))
    bench.send(1100)
    bench.wait_for_value("failed: labels: no class ids", "1")


def test_with_overload_all_every_image_meets_its_own(start: Start) -> None:
    bench, network, labels = start_with_network(start, overload="all")
    stamps = range(0, 2 * MOST_WAITING * 10, 10)
    for i in stamps:  # more labels than are kept where only the newest image counts
        network.send(i, upper=i // 10 % 11)
    for i in stamps:
        bench.send(i)
    bench.wait_for_answer(labels, stamps[-1])
    assert [halves(m)[0] for m in labels] == [i // 10 % 11 for i in stamps]
    assert "frames without labels" not in bench.diagnostics()


def test_the_head_stands_in_for_labels_that_do_not_come(start: Start) -> None:
    bench, network, labels = start_with_network(start, network_timeout=0.1)
    bench.send(0)
    bench.wait_for_answer(labels, 0)
    bench.wait_for_log("no labels for the image taken at 0 ns (logged once, counted on)")
    bench.wait_for_value("frames without labels", "1")
    network.send(50)  # of another image
    bench.send(100)
    bench.wait_for_answer(labels, 100)
    bench.wait_for_value("frames without labels", "2")
    bench.wait_for_value("frames processed", "2")
    assert bench.log.count("no labels for the image") == 1
    heard = [s.status[0] for s in bench._statuses]
    assert any(
        s.level == DiagnosticStatus.WARN and "did not come in time on dense_labels" in s.message
        for s in heard
    )


def test_a_network_that_skips_images_is_not_waited_for(start: Start) -> None:
    """Labels of a later image say that those of this one will not come."""
    bench, network, labels = start_with_network(start, network_timeout=60.0)
    bench.send(0)
    bench.wait_for_value("frames in", "1")
    network.send(100)
    bench.wait_for_answer(labels, 0)
    bench.wait_for_value("frames without labels", "1")
    bench.wait_for_log("does it not copy the image's header?")
    bench.send(100)
    assert halves(bench.wait_for_answer(labels, 100)) == (CAR, ROAD)


def test_labels_of_other_classes_have_no_stand_in(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nclasses:\n"
        "  - {id: 3, name: floor, color: [1, 2, 3]}\n  - {id: 8, name: wall, color: [3, 2, 1]}\n"
    )
    bench, network, labels = start_with_network(
        start, mode="refine", network_classes=str(path), network_timeout=0.1
    )
    bench.send(0)
    bench.wait_for_value("failed: no labels", "1")
    network.send(100)
    bench.send(100)
    bench.wait_for_answer(labels, 100)
    assert set(np.unique(labels[-1].data)) == {3, 8}
    assert len(labels) == 1


def test_what_is_no_label_image_is_named(start: Start) -> None:
    bench, network, labels = start_with_network(start)
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    network.send_message(image_message(depth, "32FC1", header(0)))
    bench.send(0)
    bench.wait_for_value("failed: labels: unknown encoding", "1")
    network.send(100)
    bench.send(100)
    bench.wait_for_answer(labels, 100)


def test_deactivation_does_not_wait_for_labels(start: Start) -> None:
    bench, _, labels = start_with_network(start, network_timeout=60.0)
    bench.send(0)
    bench.wait_for_value("frames in", "1")
    assert bench.change("deactivate")  # the call would time out
    bench.wait_for_answer(labels, 0)
    assert bench.change("activate")


def test_the_labels_reliability_is_followed(start: Start) -> None:
    bench = start(network="topic", mode="network", network_timeout=20.0)
    labels = bench.record("/vss/label_image", Image)
    bench.active()
    network = Network(bench, RELIABLE)
    bench.wait_for_log("/dense_labels: now reliable")
    network.ready().send(0)
    bench.send(0)
    bench.wait_for_answer(labels, 0)
    (subscription,) = [s for s in bench.node.subscriptions if s.topic_name == "/dense_labels"]
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
