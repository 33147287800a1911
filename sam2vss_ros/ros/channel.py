"""One camera of the node: from its subscription to its publishers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from sam2vss_ros.config import NodeConfig, PipelineConfig
from sam2vss_ros.errors import ImageError, MissingLabelsError, NetworkError
from sam2vss_ros.io.ros_images import compressed_to_rgb, label_ids
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.camera import Camera
from sam2vss_ros.ros.conversions import image_to_rgb
from sam2vss_ros.ros.diagnostics import Reporter, Statistics
from sam2vss_ros.ros.labels import LabelTopic
from sam2vss_ros.ros.mailbox import Arrival, Mailbox
from sam2vss_ros.ros.messages import stamp_ns
from sam2vss_ros.ros.outputs import Answer, Outputs, output_size
from sam2vss_ros.ros.services import Services
from sam2vss_ros.ros.worker import Worker
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame, SemanticFrame


class Channel:
    """A camera, from its subscription to its publishers.

    name: empty for the only camera of a node, whose topics then have no prefix. Made when the node
    is configured; between `open` and `close` it has a pipeline and takes images. A frame that is
    broken, or that the pipeline refuses, is counted, logged the first time and skipped. `config`
    may be replaced at any time.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        catalog: ClassCatalog,
        pipeline_config: PipelineConfig,
        config: NodeConfig,
    ) -> None:
        self.name = name
        self.config = config
        self.pipeline: VssPipeline | None = None
        self._node = node
        self._log = node.get_logger().get_child(name) if name else node.get_logger()
        self._prefix = f"{name}/" if name else ""
        self._enabled = config.start_enabled
        self._statistics = Statistics()
        self._reporter = Reporter(node.get_fully_qualified_name(), name)
        self._camera: Camera | None = None
        self._labels: LabelTopic | None = None
        self._worker: Worker | None = None
        self._opened, self._made = ExitStack(), ExitStack()  # what to undo, last first

        self.outputs = Outputs(node, self._prefix, catalog, pipeline_config.unlabelled_id)
        self._made.callback(self.outputs.destroy)
        self.outputs.publish_catalog()
        self.outputs.publish_label_info(pipeline_config.min_class_score)
        services = Services(
            node, self._prefix, lambda: self.pipeline if self._camera else None, self._enable
        )
        self._made.callback(services.destroy)

    # From the node, in the executor's thread.

    def open(self, pipeline: VssPipeline) -> None:
        """Give the camera its pipeline; images are taken once it is connected."""
        latest = self.config.overload == "latest"
        self.mailbox = Mailbox(1 if latest else self.config.queue_size, latest)
        self.pipeline = pipeline
        self._last: tuple[int, tuple[int, ...]] | None = None  # stamp and shape
        self._last_time = time.monotonic()
        self._released = False
        self._overflow_logged = self._lack_logged = False
        self._breaks_logged: set[str] = set()

    def connect(self, worker: Worker) -> str:
        """Subscribe to the camera; returns the topic of its images."""
        assert self.pipeline is not None
        self._worker = worker
        self._opened.callback(setattr, self, "_worker", None)
        if self.pipeline.config.network == "topic":
            topic = f"{self._prefix}dense_labels"
            self._labels = LabelTopic(self._node, self.config, topic, worker.wake)
            self._opened.callback(setattr, self, "_labels", None)
            self._opened.callback(self._labels.destroy)
        self._camera = Camera(self._node, self.config, self._prefix, self._put)
        self._opened.callback(setattr, self, "_camera", None)
        self._opened.callback(self._camera.destroy)
        return self._camera.topic

    def disconnect(self) -> None:
        """Take no more images."""
        self._opened.close()

    def close(self) -> None:
        """Drop what waits and let go of the pipeline, once the worker has stopped."""
        pipeline, self.pipeline = self.pipeline, None
        if pipeline is not None:
            self._statistics.dropped(self.mailbox.clear())
            pipeline.close()

    def destroy(self) -> None:
        """End publishers and services."""
        self._made.close()

    def watch(self) -> None:
        """Follow the publishers of the inputs, and notice silence; to be called regularly."""
        if self._camera is not None:
            self._camera.watch(self.config.no_image_warning, self._enabled)
        if self._labels is not None:
            self._labels.follow()

    def status(self) -> DiagnosticStatus:
        """What diagnostics say of this camera."""
        connected = self._camera is not None
        state = "inactive" if not connected else "active" if self._enabled else "disabled"
        facts = {"state": state, "overload": self.config.overload}
        if self.pipeline is not None:
            facts["model"] = self.pipeline.config.model
            facts["network"] = self.pipeline.config.network
            facts["device"] = str(self.pipeline.device)
            model_bytes = self.pipeline.perception.memory_bytes()
            facts["model memory (MB)"] = f"{model_bytes / 1e6:.1f}"
            facts["object memory (MB)"] = f"{self.pipeline.memory_bytes() / 1e6:.1f}"
        silence = self._camera.silence if self._camera is not None else ""
        latest = self.config.overload == "latest"
        return self._reporter.status(state, self._statistics, silence, latest, facts)

    def _put(self, message: Image | CompressedImage) -> None:
        if not self._enabled or self._worker is None:
            return
        self._statistics.received()
        if not self._worker.put(self, Arrival(message, time.monotonic())):
            self._statistics.dropped()
            if self.config.overload == "all" and not self._overflow_logged:
                self._overflow_logged = True
                self._log.warning(
                    f"image dropped (logged once, counted on): {self.config.queue_size} wait "
                    "already (queue_size); play the images more slowly"
                )

    # From the worker, in its thread. See `Served`.

    def ready(self, arrival: Arrival, now: float) -> bool:
        """Whether the image has its labels, where it needs any, or has waited long enough."""
        labels = self._labels
        if labels is None or self.patience(arrival, now) <= 0:
            return True
        return labels.settled(stamp_ns(arrival.message.header.stamp), arrival.time)

    def patience(self, arrival: Arrival, now: float) -> float:
        """Seconds until the image has waited long enough for its labels."""
        return max(0.0, arrival.time + self.config.network_timeout - now)

    def read(self, arrival: Arrival) -> Frame | None:
        """The frame of a message; None where it is broken."""
        message = arrival.message
        stamp = stamp_ns(message.header.stamp)
        if self._last is not None and stamp == self._last[0]:
            self._skip("stamp used twice", f"two images in a row have the stamp {stamp} ns")
            return None
        decode = compressed_to_rgb if isinstance(message, CompressedImage) else image_to_rgb
        try:
            return Frame(decode(message), stamp, self._take_labels(stamp))
        except ImageError as error:
            self._skip(error.reason, str(error))
        except Exception as error:  # whatever happens to one frame, the next one is processed
            self._skip(f"error: {type(error).__name__}", traceback.format_exc())
        return None

    def wants_features(self) -> bool:
        """Whether objects are followed."""
        return self.pipeline is not None and self.pipeline.config.mode != "network"

    def answer(
        self, arrival: Arrival, frame: Frame, image: Features | None, elsewhere: float
    ) -> None:
        """Process a frame and publish the answer."""
        assert self.pipeline is not None
        self._notice_break(frame)
        self._last = (frame.stamp_ns, frame.image.shape)
        self._last_time, self._released = time.monotonic(), False
        try:
            semantic = self.pipeline.process(frame, image, elsewhere)
            self._publish(arrival, frame, semantic)
        except MissingLabelsError as error:
            self._skip("no labels", str(error))
        except NetworkError as error:
            self.pipeline.reset()
            self._skip("network failed", str(error))
        except Exception as error:
            # The memory may be half updated, so it begins anew.
            if self._node.context.ok():
                self.pipeline.reset()
                self._skip(f"error: {type(error).__name__}", traceback.format_exc())

    def rest(self, now: float) -> None:
        """Give back the memory of a camera that has been silent for long."""
        limit = self.config.release_after
        if self.pipeline is not None and not self._released and 0 < limit < now - self._last_time:
            self.pipeline.release()
            self._released = True

    def _publish(self, arrival: Arrival, frame: Frame, semantic: SemanticFrame) -> None:
        if semantic.scene_cut:
            self._report_break("scene cut", "objects are lost until they are recognised")
        elif semantic.time_jump:
            self._report_break("time jump", "objects are kept that look like themselves")
        height, width = frame.image.shape[:2]
        size = output_size(self.config.output_width, self.config.output_height, (width, height))
        camera = self._camera
        info = None if camera is None else camera.camera_info
        self.outputs.publish(Answer(arrival.message.header, frame.image, semantic, info, size))
        milliseconds = dict(semantic.timings_ms)
        milliseconds["arrival to publish"] = (time.monotonic() - arrival.time) * 1e3
        latency = self._node.get_clock().now().nanoseconds - frame.stamp_ns
        milliseconds["capture to publish"] = latency / 1e6
        self._statistics.processed(
            milliseconds, len(semantic.objects), semantic.degraded, semantic.late
        )

    def _take_labels(self, stamp: int) -> npt.NDArray[np.integer] | None:
        """What another node says of the image; what is missing is counted."""
        if self._labels is None:
            return None
        message = self._labels.take(stamp)
        if message is not None:
            try:
                return label_ids(message)
            except ImageError as error:
                raise ImageError(f"labels: {error.reason}", str(error)) from error
        self._statistics.without_labels()
        if not self._lack_logged:
            self._lack_logged = True
            self._log.warning(
                f"no labels for the image taken at {stamp} ns (logged once, counted on), waited "
                f"for {self.config.network_timeout:g} s: {self._labels.reason()}"
            )
        return None

    def _notice_break(self, frame: Frame) -> None:
        """Report what shows in the message alone: time that runs backwards and another size."""
        if self._last is None:
            return
        stamp, shape = self._last
        if frame.stamp_ns < stamp:
            seconds = (stamp - frame.stamp_ns) / 1e9
            self._log.warning(f"time went back by {seconds:.3f} s: the stream begins anew")
            self._statistics.reset()
        elif frame.image.shape != shape:
            (h0, w0), (h1, w1) = shape[:2], frame.image.shape[:2]
            self._log.warning(
                f"the image size changed from {w0}x{h0} to {w1}x{h1}: objects are kept that look "
                "like themselves"
            )

    def _report_break(self, kind: str, consequence: str) -> None:
        """Count what the pipeline noticed; log the first of its kind."""
        self._statistics.broke(kind)
        if kind not in self._breaks_logged:
            self._breaks_logged.add(kind)
            self._log.warning(f"{kind} (logged once, counted on): {consequence}")

    def _skip(self, reason: str, detail: str) -> None:
        if self._statistics.failed(reason):
            self._log.error(f"frame skipped ({reason}; logged once, counted on): {detail}")

    # Options, from the node.

    def reconfigure(self, changes: Mapping[str, Any]) -> None:
        """Take up live options of the pipeline. Raises ValueError or TypeError."""
        if self.pipeline is not None and changes:
            self.pipeline.reconfigure(**changes)
        if "min_class_score" in changes:
            self.outputs.publish_label_info(float(changes["min_class_score"]))

    def _enable(self, enabled: bool) -> None:
        self._enabled = enabled
        if self._camera is not None:
            self._camera.expect_images()
