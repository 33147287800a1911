"""One camera of the node: from its subscription to its publishers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from sam2vss_ros.config import NodeConfig, PipelineConfig
from sam2vss_ros.errors import ImageError, MissingLabelsError, NetworkError, with_traceback
from sam2vss_ros.io.contrast import Contrast
from sam2vss_ros.io.ros_images import compressed_to_rgb, label_ids
from sam2vss_ros.io.stamps import CaptureTimes, header_stamp_ns
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.camera import Camera
from sam2vss_ros.ros.conversions import image_to_rgb
from sam2vss_ros.ros.diagnostics import Reporter, Statistics
from sam2vss_ros.ros.labels import LabelTopic
from sam2vss_ros.ros.mailbox import MOST_BYTES, Arrival, Mailbox
from sam2vss_ros.ros.outputs import Answer, Outputs, output_size
from sam2vss_ros.ros.services import Services
from sam2vss_ros.ros.space import NoDepthError, PairedDepth, Space
from sam2vss_ros.ros.worker import Taken, Worker
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.groups import mask_ids
from sam2vss_ros.stages.features import Looked, Predicted
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame, SemanticFrame

WALL_NS = time.time_ns() - time.monotonic_ns()
"""From monotonic to wall time. Fixed, so that no correction of the clock moves an arrival."""


class Channel:
    """A camera, from its subscription to its publishers.

    name: empty for the only camera of a node, whose topics then have no prefix. Made when the node
    is configured; between `open` and `close` it has a pipeline and takes images. A frame that is
    broken, or that the pipeline refuses, is counted, logged the first time and skipped. `config`
    may be replaced at any time. Raises ValueError for a mask of classes that the catalog has not.
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

        masks = mask_ids(config.masks, catalog)
        self.outputs = Outputs(node, self._prefix, catalog, pipeline_config.unlabelled_id, masks)
        self._made.callback(self.outputs.destroy)
        self.space = Space(node, self._prefix)
        self._made.callback(self.space.destroy)
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
        size = 1 if latest else self.config.queue_size
        self.mailbox = Mailbox(size, latest, pipeline.config.max_step_back)
        self.pipeline = pipeline
        self._times = CaptureTimes()
        self._last: tuple[int, tuple[int, ...]] | None = None  # stamp and shape
        self._last_time = time.monotonic()
        self._released = False
        self._logged: set[str] = set()
        self._tell_classes()
        self._contrast = Contrast()

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
        self._opened.callback(self.space.disconnect)
        self._camera = Camera(self._node, self.config, self._prefix, self._put)
        self._opened.callback(setattr, self, "_camera", None)
        self._opened.callback(self._camera.destroy)
        return self._camera.topic

    @property
    def catalog(self) -> ClassCatalog:
        """What the labels mean, as it was last said."""
        return self.outputs.catalog

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
        if self._worker is not None:
            self.space.follow(self.config, self._worker.wake)

    def status(self) -> DiagnosticStatus:
        """What diagnostics say of this camera."""
        connected = self._camera is not None
        state = "inactive" if not connected else "active" if self._enabled else "disabled"
        facts = {"state": state, "overload": self.config.overload}
        facts["label image"] = self.outputs.label_encoding
        if self.pipeline is not None:
            facts["model"] = self.pipeline.config.model
            facts["network"] = self.pipeline.config.network
            facts["device"] = str(self.pipeline.device)
            model_bytes = self.pipeline.perception.memory_bytes()
            facts["model memory (MB)"] = f"{model_bytes / 1e6:.1f}"
            facts["object memory (MB)"] = f"{self.pipeline.memory_bytes() / 1e6:.1f}"
        silence = self._camera.silence if self._camera is not None else ""
        crowds = [topic.crowd for topic in (self._camera, self._labels) if topic is not None]
        latest = self.config.overload == "latest"
        return self._reporter.status(state, self._statistics, silence, crowds, latest, facts)

    def _put(self, message: Image | CompressedImage) -> None:
        if not self._enabled or self._worker is None:
            return
        self._statistics.received()
        if not self._worker.put(self, Arrival(message, time.monotonic())):
            self._statistics.dropped()
            if self.config.overload == "all" and self._first("overflow"):
                self._log.warning(
                    "image dropped (logged once, counted on): as many wait as may, "
                    f"{self.config.queue_size} (queue_size) or {MOST_BYTES >> 30} GB; play the "
                    "images more slowly"
                )

    # From the worker, in its thread. See `Served`.

    def ready(self, arrival: Arrival, now: float) -> bool:
        """Whether the image has its labels and its depth, where it needs any, or has waited long
        enough."""
        return self.patience(arrival, now) <= 0

    def patience(self, arrival: Arrival, now: float) -> float:
        """Seconds until the image has waited long enough for what it still lacks."""
        stamp, labels, longest = header_stamp_ns(arrival.message), self._labels, 0.0
        if labels is not None and not labels.settled(stamp, arrival.time):
            longest = self.config.network_timeout
        if self.space.waits_for(stamp):
            longest = max(longest, self.config.depth_slop)
        return max(0.0, arrival.time + longest - now) if longest else 0.0

    def read(self, arrival: Arrival) -> Taken | None:
        """The frame of a message, with its depth; None where it is broken."""
        message = arrival.message
        assert self.pipeline is not None
        most = self.pipeline.config.max_image_pixels
        decode = compressed_to_rgb if isinstance(message, CompressedImage) else image_to_rgb
        try:
            image = decode(message, most, self._contrast)
            stamp = header_stamp_ns(message)
            time_ns = self._times.of(stamp, WALL_NS + round(arrival.time * 1e9))
            if self._times.unstamped:
                self._note_no_stamp(stamp)
            depth = self.space.take(stamp, self.config)
            return Taken(arrival, Frame(image, time_ns, self._take_labels(stamp)), depth)
        except ImageError as error:
            self._skip(error.reason, str(error))
        except Exception as error:  # whatever happens to one frame, the next one is processed
            self._skip(f"error: {type(error).__name__}", with_traceback(error))
        return None

    @property
    def _hurried(self) -> bool:
        return self._worker is not None and self._worker.hurried

    def wants_features(self, taken: Taken) -> bool:
        """Whether the networks are to look at the image."""
        return self.pipeline is not None and self.pipeline.looks_at(taken.frame, self._hurried)

    def look(self, taken: Taken, image: Features | None) -> Predicted | None:
        """What the networks say of a frame that is to be answered later."""
        assert self.pipeline is not None
        return self.pipeline.look(taken.frame, image, self._hurried)

    def answer(self, taken: Taken, looked: Looked | None, elsewhere: float) -> None:
        """Process a frame and publish the answer, unless it is out of order."""
        assert self.pipeline is not None
        self._last_time, self._released = time.monotonic(), False
        try:
            if self._is_late(taken.frame.stamp_ns):
                return
            self.pipeline.wants_entropy = self.space.wants_entropy(self.config)
            semantic = self.pipeline.process(taken.frame, looked, elsewhere, self._hurried)
            self._publish(taken, semantic)
        except MissingLabelsError as error:
            self._skip("no labels", str(error))
        except NetworkError as error:
            self._skip("network failed", str(error))
        except Exception as error:
            if self._node.context.ok():
                self._skip(f"error: {type(error).__name__}", with_traceback(error))

    def rest(self, now: float) -> None:
        """Give back the memory of a camera that has been silent for long."""
        limit = self.config.release_after
        if self.pipeline is not None and not self._released and 0 < limit < now - self._last_time:
            self.pipeline.release()
            self._released = True

    def _publish(self, taken: Taken, semantic: SemanticFrame) -> None:
        arrival, frame, depth = taken
        self._report_breaks(frame, semantic)
        height, width = frame.image.shape[:2]
        size = output_size(self.config.output_width, self.config.output_height, (width, height))
        camera = self._camera
        info = None if camera is None else camera.camera_info
        answer = Answer(arrival.message.header, frame.image, semantic, info, size)
        self.outputs.publish(answer)
        milliseconds = dict(semantic.timings_ms)
        if depth is not None:
            start = time.monotonic()
            self._publish_space(answer, depth)
            milliseconds["3-D"] = (time.monotonic() - start) * 1e3
        milliseconds["arrival to publish"] = (time.monotonic() - arrival.time) * 1e3
        if not self._times.unstamped:
            latency = self._node.get_clock().now().nanoseconds - frame.stamp_ns
            milliseconds["capture to publish"] = latency / 1e6
        self._statistics.processed(
            milliseconds,
            len(semantic.objects),
            semantic.degraded,
            semantic.late,
            semantic.carried,
        )

    def _publish_space(self, answer: Answer, depth: PairedDepth) -> None:
        """What is made of depth; where there is none of use, that is counted."""
        assert self.pipeline is not None
        try:
            self.space.publish(answer, depth, self.config, self.pipeline.config.max_image_pixels)
        except NoDepthError as error:
            if self._statistics.without_depth(error.reason):
                self._log.warning(f"no 3-D (logged once, counted on): {error}")

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
        if self._first("no labels"):
            self._log.warning(
                f"no labels for the image taken at {stamp} ns (logged once, counted on), waited "
                f"for {self.config.network_timeout:g} s: {self._labels.reason()}"
            )
        return None

    def _is_late(self, time_ns: int) -> bool:
        """Whether an image is out of order; then it is counted as dropped."""
        assert self.pipeline is not None
        if not self.pipeline.out_of_order(time_ns):
            return False
        self._statistics.out_of_order()
        if self._first("out of order"):
            self._log.warning(
                "image out of order dropped (logged once, counted on): it is older than the one "
                f"before, by at most {self.pipeline.config.max_step_back:g} s (max_step_back)"
            )
        return True

    def _note_no_stamp(self, stamp: int) -> None:
        """Count an image that goes by its arrival."""
        self._statistics.without_stamp()
        if self._first("no stamp"):
            self._log.warning(
                f"the camera does not stamp its images, the stamp stays at {stamp} ns (logged "
                "once, counted on): they go by the time of their arrival"
            )

    def _report_breaks(self, frame: Frame, semantic: SemanticFrame) -> None:
        """Count where the stream did not simply go on; log the first of each kind."""
        last, self._last = self._last, (frame.stamp_ns, frame.image.shape)
        if last is not None and semantic.began_anew:
            seconds = (last[0] - frame.stamp_ns) / 1e9
            self._broke(
                "stream reset",
                f"time went back by {seconds:.3f} s: the stream begins anew",
            )
        elif last is not None and last[1] != frame.image.shape:
            (h0, w0), (h1, w1) = last[1][:2], frame.image.shape[:2]
            self._broke(
                "size change",
                f"the image size changed from {w0}x{h0} to {w1}x{h1}: objects are kept that look "
                "like themselves",
            )
        if semantic.scene_cut:
            self._broke("scene cut", "objects are lost until they are recognised")
        elif semantic.time_jump:
            self._broke("time jump", "objects are kept that look like themselves")

    def _broke(self, kind: str, consequence: str) -> None:
        self._statistics.broke(kind)
        if self._first(kind):
            self._log.warning(f"{kind} (logged once, counted on): {consequence}")

    def _first(self, kind: str) -> bool:
        """Whether what may happen on every frame happens the first time, to be logged."""
        first = kind not in self._logged
        self._logged.add(kind)
        return first

    def _skip(self, reason: str, detail: str) -> None:
        if self._statistics.failed(reason):
            self._log.error(f"frame skipped ({reason}; logged once, counted on): {detail}")

    # Options, from the node.

    def reconfigure(self, changes: Mapping[str, Any]) -> None:
        """Take up live options of the pipeline. Raises ValueError or TypeError."""
        if self.pipeline is not None and changes:
            self.pipeline.reconfigure(**changes)
            self._tell_classes()
        if "min_class_score" in changes:
            self.outputs.publish_label_info(float(changes["min_class_score"]))

    def _tell_classes(self) -> None:
        """Say what the labels mean, where that has changed."""
        pipeline = self.pipeline
        if pipeline is not None and pipeline.catalog != self.outputs.catalog:
            self.outputs.rename(pipeline.catalog, pipeline.config.min_class_score)

    def _enable(self, enabled: bool) -> None:
        self._enabled = enabled
        if self._camera is not None:
            self._camera.expect_images()
