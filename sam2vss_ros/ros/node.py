"""The lifecycle node `vss`: camera images in, semantic labels and tracked objects out.

It wires the other modules together and decides nothing about images.

- configure: read the parameters, load the model, create publishers and services. Whatever is wrong
  with a parameter or a checkpoint is logged, and the node stays unconfigured until it is corrected.
- activate: subscribe to the camera and start the worker; after a deactivation the model is loaded
  again.
- deactivate: unsubscribe, finish the frame in hand, give the memory of model and objects back.
- cleanup, shutdown: give everything back.
"""

from __future__ import annotations

import dataclasses
import signal
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from sam2vss_ros.config import NodeConfig, PipelineConfig, Value, options_of
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.camera import Camera
from sam2vss_ros.ros.diagnostics import Reporter, Statistics
from sam2vss_ros.ros.labels import LabelTopic
from sam2vss_ros.ros.messages import prompt_from
from sam2vss_ros.ros.outputs import Outputs
from sam2vss_ros.ros.parameters import Parameters
from sam2vss_ros.ros.stream import Stream
from sam2vss_ros.srv import AddPrompt, RemoveObject

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE  # the node stays in the state it was in
ERROR = TransitionCallbackReturn.ERROR  # on_error, then unconfigured
WATCH_PERIOD = 0.5  # seconds from one look at the camera's publishers to the next
INACTIVE = "the node is not active: activate it first"
PEOPLE_ERRORS = (ValueError, TypeError, OSError, RuntimeError)  # their text says what to do


class VssNode(LifecycleNode):
    """The node. Further keyword arguments are those of rclpy's Node, `context` for example."""

    def __init__(
        self, make_pipeline: Callable[[PipelineConfig], VssPipeline] = VssPipeline, **kwargs: Any
    ) -> None:
        super().__init__("vss", automatically_declare_parameters_from_overrides=True, **kwargs)
        self._make_pipeline = make_pipeline
        self._options = Parameters(self)
        self._config = NodeConfig()
        self._statistics = Statistics()
        self._reporter = Reporter(self.get_fully_qualified_name())
        self._enabled = True
        self._pipeline: VssPipeline | None = None
        self._outputs: Outputs | None = None
        self._camera: Camera | None = None
        self._labels: LabelTopic | None = None
        self._stream: Stream | None = None
        self._configured, self._activated = ExitStack(), ExitStack()  # what to undo, last first
        # The node's own timers follow a steady clock: simulated time may stand still.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        # A timer from the start, since the middleware now and then wakes nobody for a request or a
        # signal: an executor without one would sleep on.
        self.create_timer(WATCH_PERIOD, self._watch, clock=self._steady)
        self._autostart = self.create_timer(0.0, self._start_by_itself, clock=self._steady)
        if not self._options.value("autostart"):
            self._autostart.cancel()

    # Transitions. rclpy swallows what these callbacks raise, so they report it themselves.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load the model, create publishers, services and timers."""
        self._autostart.cancel()  # a lifecycle manager was quicker
        return self._attempt("configure", self._configure, undo=self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the worker."""
        return self._attempt("activate", self._activate, undo=self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in hand, give the memory back."""
        return self._attempt("deactivate", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back."""
        return self._attempt("clean up", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back."""
        return self._attempt("shut down", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back what is left, so that the node can be configured again."""
        return self._attempt("recover", self._release)

    def destroy_node(self) -> None:
        """Give everything back, also without a shutdown transition."""
        self._attempt("shut down", self._release)
        super().destroy_node()

    def _attempt(
        self, what: str, act: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        try:
            act()
        except Exception as error:
            reason = str(error) if isinstance(error, PEOPLE_ERRORS) else traceback.format_exc()
            self.get_logger().error(f"cannot {what}: {reason}")
            if undo is None:
                return ERROR
            undo()
            return FAILURE
        return SUCCESS

    def _start_by_itself(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _configure(self) -> None:
        pipeline_config, self._config = self._options.read()
        pipeline = self._load(pipeline_config)
        undo = self._configured
        undo.callback(self._unload)
        self._outputs = Outputs(self, pipeline.catalog, pipeline_config.unlabelled_id)
        undo.callback(self._outputs.destroy)
        self._outputs.publish_catalog()
        self._outputs.publish_label_info(pipeline_config.min_class_score)

        self._enabled = self._config.start_enabled
        for kind, name, answer in (
            (SetBool, "~/enable", self._enable),
            (Trigger, "~/reset", self._reset),
            (AddPrompt, "~/add_prompt", self._add_prompt),
            (RemoveObject, "~/remove_object", self._remove_object),
        ):
            undo.callback(self.destroy_service, self.create_service(kind, name, answer))

        self._statistics = Statistics()
        self._reporter = Reporter(self.get_fully_qualified_name())
        diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        undo.callback(self.destroy_publisher, diagnostics)
        timer = self.create_timer(
            self._config.diagnostics_period,
            lambda: diagnostics.publish(self._diagnostics()),
            clock=self._steady,
        )
        undo.callback(self.destroy_timer, timer)

        self._options.apply = self._apply
        undo.callback(setattr, self._options, "apply", None)

    def _activate(self) -> None:
        if self._outputs is None:
            raise RuntimeError("the node is not configured")
        pipeline_config, self._config = self._options.read()
        undo = self._activated
        undo.callback(self._unload)
        pipeline = self._pipeline or self._load(pipeline_config)
        if pipeline_config.network == "topic":
            self._labels = LabelTopic(self, self._config)
            undo.callback(self._labels.destroy)
            undo.callback(setattr, self, "_labels", None)
        self._stream = Stream(
            self,
            self._config,
            pipeline,
            self._outputs,
            self._statistics,
            self._newest_camera_info,
            self._labels,
        )
        undo.callback(setattr, self, "_stream", None)
        undo.callback(self._stream.stop)
        self._camera = Camera(self, self._config, self._take_image)
        undo.callback(setattr, self, "_camera", None)
        undo.callback(self._camera.destroy)
        model = f"{pipeline_config.model} on {pipeline.device}"
        self.get_logger().info(f"active: {model}, images from {self._camera.topic}")

    def _deactivate(self) -> None:
        self._activated.close()

    def _release(self) -> None:
        self._activated.close()
        self._configured.close()

    def _load(self, config: PipelineConfig) -> VssPipeline:
        self._pipeline = self._make_pipeline(config)
        return self._pipeline

    def _unload(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    # The camera.

    def _take_image(self, message: Image | CompressedImage) -> None:
        if self._enabled and self._stream is not None:
            self._stream.put(message)

    def _newest_camera_info(self) -> Any:
        return self._camera.camera_info if self._camera is not None else None

    def _watch(self) -> None:
        if self._camera is not None:
            self._camera.watch(self._config.no_image_warning, self._enabled)
        if self._labels is not None:
            self._labels.follow()

    # Parameters and diagnostics.

    def _apply(self, changes: Mapping[str, Value]) -> None:
        """Take up live options. Raises ValueError or TypeError for what does not fit."""
        for_pipeline = {k: v for k, v in changes.items() if k in options_of(PipelineConfig)}
        for_pipeline = {k: v for k, v in for_pipeline.items() if v != self._options.value(k)}
        if for_pipeline and self._pipeline is not None:
            self._pipeline.reconfigure(**for_pipeline)
        if "min_class_score" in for_pipeline and self._outputs is not None:
            self._outputs.publish_label_info(float(for_pipeline["min_class_score"]))
        own: dict[str, Any] = {k: v for k, v in changes.items() if k in options_of(NodeConfig)}
        self._config = dataclasses.replace(self._config, **own)
        if self._stream is not None:
            self._stream.config = self._config

    def _diagnostics(self) -> DiagnosticArray:
        state = "inactive" if self._stream is None else "active" if self._enabled else "disabled"
        facts = {"state": state, "overload": self._config.overload}
        if self._pipeline is not None:
            facts["model"] = self._pipeline.config.model
            facts["network"] = self._pipeline.config.network
            facts["device"] = str(self._pipeline.device)
            facts["object memory (MB)"] = f"{self._pipeline.memory_bytes() / 1e6:.1f}"
        silence = self._camera.silence if self._camera is not None else ""
        latest = self._config.overload == "latest"
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [self._reporter.status(state, self._statistics, silence, latest, facts)]
        return message

    # Services: they answer, they never raise.

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if self._camera is not None:
            self._camera.expect_images()
        response.success = True
        response.message = "enabled" if request.data else "disabled: images are ignored"
        return response

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._pipeline is None or self._stream is None:
            response.success, response.message = False, INACTIVE
        else:
            self._pipeline.reset()
            response.success, response.message = True, "all objects are forgotten"
        return response

    def _add_prompt(
        self, request: AddPrompt.Request, response: AddPrompt.Response
    ) -> AddPrompt.Response:
        if self._pipeline is None or self._stream is None:
            response.message = INACTIVE
            return response
        try:
            prompt = prompt_from(request, self._pipeline.catalog)
            response.track_id = self._pipeline.add_prompt(prompt)
            response.success = True
            response.message = f"object {response.track_id} is found in the next image"
        except ValueError as error:
            response.message = str(error)
        return response

    def _remove_object(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        if self._pipeline is None or self._stream is None:
            response.message = INACTIVE
            return response
        response.success = self._pipeline.remove_object(request.track_id)
        known = "is forgotten" if response.success else "is not in memory"
        response.message = f"object {request.track_id} {known}"
        return response


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; both end it with exit code 0."""
    # Under `ros2 launch` Ctrl-C arrives twice. rclpy handles the first one while it is initialised,
    # the second must not interrupt the clean-up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node = VssNode()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # A signal may end the context just while the executor builds its wait set.
        if rclpy.ok():
            raise
    finally:
        node.destroy_node()
        executor.shutdown()
        try_shutdown()
    return 0
