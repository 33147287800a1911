"""A lifecycle manager that takes the node `vss` through its life again and again, with images.

Each cycle is configure, activate, images one after the other, deactivate, cleanup. Reports `cycle`
(images sent and answered in it) after each, and ends with the last.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2vss_ros.demo.process import emit
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.training.procedural import street_video

RELIABLE = QoSProfile(depth=10)
ANSWER_LIMIT = 10.0  # seconds for the labels of an image
CHANGE_LIMIT = 120.0  # seconds for a transition, and for the node to be found


class CycleError(RuntimeError):
    """The node does not do as it is told; the message is for people."""


class Manager:
    """The node's manager and its camera, which is its only listener, too."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        self._node, self._executor = node, executor
        self._answers: list[Any] = []
        self._change_state = node.create_client(ChangeState, "/vss/change_state")
        self._camera = node.create_publisher(Image, "image", RELIABLE)
        node.create_subscription(
            Image, "/vss/label_image", lambda m: self._answers.append(m.header.stamp), RELIABLE
        )
        # The middleware now and then wakes nobody: an executor without a timer would sleep on.
        node.create_timer(0.1, lambda: None)

    def cycle(self, images: npt.NDArray[np.uint8]) -> int:
        """One life of the node with these (N, H, W, 3) RGB images; returns how many it answers."""
        self._change(Transition.TRANSITION_CONFIGURE)
        self._change(Transition.TRANSITION_ACTIVATE)
        self._wait(self._camera.get_subscription_count, CHANGE_LIMIT)
        answered = sum(self._is_answered(image) for image in images)
        self._change(Transition.TRANSITION_DEACTIVATE)
        self._change(Transition.TRANSITION_CLEANUP)
        return answered

    def _is_answered(self, image: npt.NDArray[np.uint8]) -> bool:
        stamp = self._node.get_clock().now().to_msg()
        self._answers.clear()
        self._camera.publish(image_message(image, "rgb8", Header(stamp=stamp)))
        return self._wait(lambda: stamp in self._answers, ANSWER_LIMIT)

    def _change(self, transition: int) -> None:
        """Raises CycleError where the node refuses the transition or does not answer."""
        if not self._wait(self._change_state.service_is_ready, CHANGE_LIMIT):
            raise CycleError("there is no node /vss")
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self._change_state.call_async(request)
        if not self._wait(answer.done, CHANGE_LIMIT):
            raise CycleError(f"transition {transition} is not answered")
        if not answer.result().success:
            raise CycleError(f"transition {transition} is refused")

    def _wait(self, condition: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True


def main() -> None:
    """Run the manager: its arguments are what `sam2vss_ros.demo.soak` gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    options = parser.parse_args()
    clip = street_video(0, options.images, (options.height, options.width))
    images = np.stack([image for image, _, _ in clip])
    rclpy.init()
    node, executor = Node("manager"), SingleThreadedExecutor()
    executor.add_node(node)
    try:
        manager = Manager(node, executor)
        for _ in range(options.cycles):
            emit("cycle", sent=len(images), answered=manager.cycle(images))
    except CycleError as error:
        sys.exit(str(error))
    finally:
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
