"""The lifecycle node `vss`: camera images in, semantic labels and tracked objects out.

It has one `Channel` for each camera, one `Perception` that they share and one `Worker` that serves
them, and decides nothing about images.

- configure: read the parameters, load the networks, create publishers and services. Whatever is
  wrong with a parameter or a checkpoint is logged, and the node stays unconfigured until it is
  corrected.
- activate: subscribe to the cameras and start the worker; after a deactivation the networks are
  loaded again.
- deactivate: unsubscribe, finish the frame in hand, give the memory of networks and objects back.
- cleanup, shutdown: give everything back.
"""

from __future__ import annotations

import dataclasses
import gc
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from sam2vss_ros import heap
from sam2vss_ros.config import NodeConfig, PipelineConfig
from sam2vss_ros.errors import LONGEST_MESSAGE, brief, one_line, with_traceback
from sam2vss_ros.options import Value, options_of
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.channel import Channel
from sam2vss_ros.ros.ending import Ending
from sam2vss_ros.ros.parameter_files import broken_file
from sam2vss_ros.ros.parameters import Parameters
from sam2vss_ros.ros.vocabulary import VocabularyService
from sam2vss_ros.ros.worker import Worker
from sam2vss_ros.semantics.vocabulary.ids import WordIds

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE  # the node stays in the state it was in
ERROR = TransitionCallbackReturn.ERROR  # on_error, then unconfigured
WATCH_PERIOD = 0.5  # seconds from one look at the camera's publishers to the next
TWIN_PERIODS = 20  # so long a node that ended without a word may still be seen
WIDE_LABELS = (
    "label_image is mono16, since an id of a class or unlabelled_id is above 255: Nav2's semantic "
    "layer, and whoever else reads a byte for each pixel, takes that for other classes"
)
PEOPLE_ERRORS = (ValueError, TypeError, OSError, RuntimeError)  # their text says what to do


class VssNode(LifecycleNode):
    """The node.

    load, make_pipeline: what makes the networks and, on them, the pipeline of a camera. Further
    keyword arguments are those of rclpy's Node, `context` for example.
    """

    def __init__(
        self,
        load: Callable[[PipelineConfig], Perception] | None = None,
        make_pipeline: Callable[[Perception, PipelineConfig], VssPipeline] = VssPipeline,
        **kwargs: Any,
    ) -> None:
        heap.bound()
        # First of all: rclpy destroys a node whose context ends while it is made.
        self._configured, self._activated = ExitStack(), ExitStack()  # what to undo, last first
        super().__init__("vss", automatically_declare_parameters_from_overrides=True, **kwargs)
        # Of all that it loads in its life, so that no name is given the id of another.
        self._load = load or partial(Perception.load, ids=WordIds())
        self._make_pipeline = make_pipeline
        self._options = Parameters(self, [*(kwargs.get("cli_args") or ()), *sys.argv])
        self._config = NodeConfig()
        self._perception: Perception | None = None
        self._channels: list[Channel] = []
        self._watched_twin = 0  # for so many periods
        # The node's own timers follow a steady clock: simulated time may stand still.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        # A timer from the start, since the middleware now and then wakes nobody for a request or a
        # signal: an executor without one would sleep on.
        self.create_timer(WATCH_PERIOD, self._watch, clock=self._steady)
        self._autostart = self.create_timer(0.0, self._start_by_itself, clock=self._steady)
        if not self._options.value("autostart"):
            self._autostart.cancel()

    def declare_parameters(
        self, namespace: str, parameters: list[Any], ignore_override: bool = False
    ) -> list[Parameter]:
        """As rclpy's, but an empty list in a parameter file is one; there it has no type."""
        typed = [(name, [] if v is None else v, *rest) for name, v, *rest in parameters]
        return list(super().declare_parameters(namespace, typed, ignore_override))

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
            known = isinstance(error, PEOPLE_ERRORS)
            reason = one_line(error, LONGEST_MESSAGE) if known else with_traceback(error)
            if self.context.ok():  # or else a signal has ended it meanwhile
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
        undo = self._configured
        undo.callback(self._unload)
        perception = self._load(pipeline_config)
        undo.callback(self._channels.clear)
        for name in self._config.cameras or ("",):
            catalog = perception.catalog
            channel = Channel(self, name, catalog, pipeline_config, self._config)
            self._channels.append(channel)
            undo.callback(channel.destroy)
        if self._channels[0].outputs.label_encoding != "mono8":
            self.get_logger().warning(WIDE_LABELS)
        self._open(perception, pipeline_config)
        vocabulary = VocabularyService(self, lambda: self._channels[0].catalog)
        undo.callback(vocabulary.destroy)

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
        if not self._channels:
            raise RuntimeError("the node is not configured")
        pipeline_config, self._config = self._options.read()
        undo = self._activated
        undo.callback(self._unload)
        for channel in self._channels:
            channel.config = self._config
        if self._perception is None:
            self._open(self._load(pipeline_config), pipeline_config)
        perception = self._perception
        assert perception is not None
        on_gpu = perception.device.type == "cuda"
        ahead = not on_gpu and (self._config.look_ahead or self._config.overload == "all")
        worker = Worker(perception, self._channels, batch=on_gpu, ahead=ahead)
        undo.callback(worker.stop)
        topics = []
        for channel in self._channels:
            undo.callback(channel.disconnect)
            topics.append(channel.connect(worker))
        model = f"{pipeline_config.model} on {perception.device}"
        self.get_logger().info(f"active: {model}, images from {', '.join(topics)}")

    def _deactivate(self) -> None:
        self._activated.close()

    def _release(self) -> None:
        self._activated.close()
        self._configured.close()
        gc.collect()  # rclpy's subscriptions and what they call hold each other

    def _open(self, perception: Perception, config: PipelineConfig) -> None:
        """Give every camera a pipeline on the networks."""
        self._perception = perception
        for channel in self._channels:
            channel.open(self._make_pipeline(perception, config))

    def _unload(self) -> None:
        perception, self._perception = self._perception, None
        for channel in self._channels:
            channel.close()
        if perception is not None:
            perception.close()

    def _watch(self) -> None:
        self._look_for_a_twin()
        for channel in self._channels:
            channel.watch()

    def _look_for_a_twin(self) -> None:
        """Services and parameters reach one of two nodes of one name, nobody knows which."""
        own = self.get_name(), self.get_namespace()
        twins = self.get_node_names_and_namespaces().count(own) - 1
        self._watched_twin = self._watched_twin + 1 if twins > 0 else 0
        if self._watched_twin == TWIN_PERIODS:
            name = self.get_fully_qualified_name()
            self.get_logger().warning(
                f"{1 + twins} nodes have the name {name}: give each its own, with --ros-args -r "
                "__node:=NAME or __ns:=/NAMESPACE"
            )

    # Parameters and diagnostics.

    def _apply(self, changes: Mapping[str, Value]) -> None:
        """Take up live options. Raises ValueError or TypeError for what does not fit."""
        for_pipeline = {k: v for k, v in changes.items() if k in options_of(PipelineConfig)}
        for_pipeline = {k: v for k, v in for_pipeline.items() if v != self._options.value(k)}
        for channel in self._channels:
            channel.reconfigure(for_pipeline)
        own: dict[str, Any] = {k: v for k, v in changes.items() if k in options_of(NodeConfig)}
        self._config = dataclasses.replace(self._config, **own)
        for channel in self._channels:
            channel.config = self._config

    def _diagnostics(self) -> DiagnosticArray:
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [channel.status() for channel in self._channels]
        return message


def without_places(text: str) -> str:
    """What rcl says, in a line and without the places in its source."""
    return one_line(re.sub(r",? at \S+:\d+", "", text))


def run(ending: Ending) -> int:
    """Run the node until `ending` shuts it down; returns the exit code of the process."""
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    except (RuntimeError, ValueError) as error:  # arguments or a parameter file it cannot read
        reason = broken_file(sys.argv) or without_places(str(error))
        print(f"vss_node: error: the command line: {reason}", file=sys.stderr)
        return 2
    executor = SingleThreadedExecutor()  # rclpy's complains if its context ends while it is made
    ending.shutdown = rclpy.try_shutdown
    with ExitStack() as undo:
        undo.callback(rclpy.get_default_context().destroy)  # tells the others that it has gone
        undo.callback(rclpy.try_shutdown)
        undo.callback(executor.shutdown)
        try:
            node = VssNode()
            undo.callback(node.destroy_node)
            if unread := remove_ros_args(None)[1:]:
                node.get_logger().warning(
                    f"not read from the command line: {brief(' '.join(unread))}; a parameter is "
                    "given as --ros-args -p NAME:=VALUE"
                )
            executor.add_node(node)
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception:
            # A signal may end the context while something is made in it.
            if rclpy.ok():
                raise
    return 0
