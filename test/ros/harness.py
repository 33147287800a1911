"""The real node with the real pipeline, a camera before it and ears behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_session import RosSession
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.conversions import image_message
from sam2vss_ros.ros.node import VssNode

Start = Callable[..., "Harness"]
WIDTH, HEIGHT = 160, 120
CAR_BOX = [33.0, 65.0, 73.0, 95.0]  # around the car of `street`: x0, y0, x1, y1
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def street(width: int = WIDTH, height: int = HEIGHT, shift: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 RGB: sky, road and a car that stands `shift` pixels to the right."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.where((y < height // 2)[..., None], (150, 190, 230), (90, 90, 95))
    car = (abs(y - height * 2 // 3) < height // 8) & (abs(x - width // 3 - shift) < width // 8)
    image[car] = (180, 30, 30)
    return (image + (x + y)[..., None] % 7).astype(np.uint8)


def header(milliseconds: int) -> Header:
    """The header of an image taken so long after the epoch."""
    seconds, rest = divmod(milliseconds, 1000)
    return Header(stamp=Time(sec=seconds, nanosec=rest * 1_000_000), frame_id="camera_optical")


class Harness:
    """A node `vss` with these parameters, and a camera on its topic `image`.

    `start` is a fixture that makes one: `start(max_objects=3)`. The node runs from the first
    question on that is asked of it, `active()` as a rule: what the test creates before cannot cross
    what the node creates in the executor's thread, which Fast DDS does not always connect.
    """

    def __init__(
        self,
        ros: RosSession,
        capfd: pytest.CaptureFixture[str],
        make_pipeline: Callable[[Perception, PipelineConfig], VssPipeline] = VssPipeline,
        camera_qos: QoSProfile | None = RELIABLE,
        namespace: str = "",
        cli_args: list[str] | None = None,
        **parameters: Any,
    ) -> None:
        self.ros = ros
        self.ears = ros.node("ears")
        self._heard: set[str] = set()
        self._capfd, self._log = capfd, ""
        self._statuses = self.record("/diagnostics", DiagnosticArray)
        self.camera = ros.node("camera")
        self._images: Any = (
            self.camera.create_publisher(Image, "image", camera_qos) if camera_qos else None
        )
        quick = {"diagnostics_period": 0.1, "threads": 1, "image_size": 256}
        values = quick | parameters
        self._spinning = False
        self.node = VssNode(
            make_pipeline=make_pipeline,
            context=ros.context,
            namespace=namespace,
            cli_args=cli_args,
            parameter_overrides=[Parameter(k, value=v) for k, v in values.items()],
        )
        create, vss = self.ears.create_client, self.node.get_fully_qualified_name()
        self._set_parameters = create(SetParameters, f"{vss}/set_parameters")
        self._change_state = create(ChangeState, f"{vss}/change_state")
        self._get_state = create(GetState, f"{vss}/get_state")

    @property
    def log(self) -> str:
        """What the node has logged."""
        self._log += self._capfd.readouterr().err
        return self._log

    def record(self, topic: str, kind: type, qos: QoSProfile = RELIABLE) -> list[Any]:
        """Subscribe; the list grows with every message. `active` waits until the node knows it."""
        messages: list[Any] = []
        self.ears.create_subscription(kind, topic, messages.append, qos)
        self._heard.add(topic)
        return messages

    def spin(self) -> None:
        """Let the node run."""
        if not self._spinning:
            self._spinning = True
            self.ros.add(self.node)

    def state(self) -> str:
        """The label of the lifecycle state."""
        self.spin()
        return str(self.ros.ask(self._get_state, GetState.Request()).current_state.label)

    def change(self, transition: str) -> bool:
        """Ask for a transition: configure, activate, deactivate, cleanup."""
        self.spin()
        wanted = Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}"))
        request = ChangeState.Request(transition=wanted)
        return bool(self.ros.call(self._change_state, request).success)

    def set(self, **values: Any) -> list[SetParametersResult]:
        """Set parameters as another process does."""
        self.spin()
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        return list(self.ros.call(self._set_parameters, request).results)

    def active(self) -> Harness:
        """Wait until the node is active, hears the camera and is heard on what is recorded."""
        self.ros.wait_until(
            lambda: self.state() == "active", lambda: f"an active node; log: {self.log}"
        )
        if self._images is not None:
            self.ros.wait_until(
                lambda: self._images.get_subscription_count() == 1, "the node's subscription"
            )
        for publisher in list(self.node.publishers):
            if publisher.topic_name in self._heard:
                self.ros.wait_until(
                    publisher.get_subscription_count, f"a subscriber of {publisher.topic_name}"
                )
        return self

    def send(self, milliseconds: int, message: Image | None = None) -> None:
        """Publish a picture of the street, or `message`, taken at this time."""
        message = message or image_message(street(shift=milliseconds // 33), "rgb8", header(0))
        message.header = header(milliseconds)
        self._images.publish(message)

    def wait_for_answer(self, messages: list[Any], milliseconds: int) -> Any:
        """Wait until the last of `messages` answers the image taken at this time; returns it."""
        self.ros.wait_until(
            lambda: messages and messages[-1].header == header(milliseconds),
            f"the answer to the image taken at {milliseconds} ms",
        )
        return messages[-1]

    @property
    def reports(self) -> list[DiagnosticArray]:
        """What /diagnostics has said so far."""
        return list(self._statuses)

    def status(self) -> DiagnosticStatus:
        """The newest status of the node."""
        self.ros.wait_until(lambda: self._statuses, "diagnostics")
        return self._statuses[-1].status[0]

    def diagnostics(self) -> dict[str, str]:
        """The newest values of the node's status."""
        return {v.key: v.value for v in self.status().values}

    def wait_for_value(self, key: str, value: str) -> None:
        """Wait until diagnostics show this value."""
        self.ros.wait_until(
            lambda: self.diagnostics().get(key) == value,
            lambda: f"{key} = {value}; it is {self.diagnostics()}, log: {self.log}",
        )

    def wait_for_log(self, text: str) -> None:
        """Wait until the node has logged something that contains `text`."""
        self.spin()
        # Seldom: what the node writes while its log is being read may be lost.
        self.ros.wait_until(
            lambda: text in self.log, lambda: f"{text!r} in the log {self.log}", pause=0.1
        )
