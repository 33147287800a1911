"""What happens to one camera image after the other, in a thread of its own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.errors import ImageError, MissingLabelsError
from sam2vss_ros.io.ros_images import compressed_to_rgb, label_ids
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.ros.conversions import image_to_rgb
from sam2vss_ros.ros.diagnostics import Statistics
from sam2vss_ros.ros.labels import LabelTopic
from sam2vss_ros.ros.messages import stamp_ns
from sam2vss_ros.ros.outputs import Answer, Outputs, output_size
from sam2vss_ros.ros.worker import Worker
from sam2vss_ros.types import Frame


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, in monotonic seconds."""

    message: Image | CompressedImage
    time: float


class Stream:
    """Leads images through the pipeline to the publishers, from `put` on in the worker's thread.

    A frame that is broken, or that the pipeline refuses, is counted, logged the first time and
    skipped. Where there are `labels` of another node, an image waits for its own. `config` may be
    replaced at any time.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        pipeline: VssPipeline,
        outputs: Outputs,
        statistics: Statistics,
        newest_camera_info: Callable[[], CameraInfo | None],
        labels: LabelTopic | None = None,
    ) -> None:
        self.config = config
        self._node = node
        self._log = node.get_logger()
        self._pipeline = pipeline
        self._outputs = outputs
        self._statistics = statistics
        self._camera_info = newest_camera_info
        self._labels = labels
        self._overflow_logged = self._lack_logged = False
        self._breaks_logged: set[str] = set()
        self._last: tuple[int, tuple[int, ...]] | None = None  # stamp and shape
        latest = config.overload == "latest"
        self._worker = Worker(self._process, 1 if latest else config.queue_size, latest)

    def put(self, message: Image | CompressedImage) -> None:
        """Take an image; returns at once."""
        self._statistics.received()
        if not self._worker.put(Arrival(message, time.monotonic())):
            self._statistics.dropped()
            if self.config.overload == "all" and not self._overflow_logged:
                self._overflow_logged = True
                self._log.warning(
                    f"image dropped (logged once, counted on): {self.config.queue_size} wait "
                    "already (queue_size); play the images more slowly"
                )

    def stop(self) -> None:
        """Finish the image in hand, drop those that wait, and let go of the pipeline."""
        if self._labels is not None:
            self._labels.end()
        self._statistics.dropped(self._worker.stop())
        del self._worker  # it refers to us: without it nothing keeps the model in memory

    def _process(self, arrival: Arrival) -> None:
        try:
            self._answer(arrival)
        except ImageError as error:
            self._skip(error.reason, str(error))
        except MissingLabelsError as error:
            self._skip("no labels", str(error))
        except Exception as error:
            # Whatever happens to one frame, the next one is to be processed. The memory may be
            # half updated, so it begins anew.
            if self._node.context.ok():
                self._pipeline.reset()
                self._skip(f"error: {type(error).__name__}", traceback.format_exc())

    def _answer(self, arrival: Arrival) -> None:
        message = arrival.message
        stamp = stamp_ns(message.header.stamp)
        if self._last is not None and stamp == self._last[0]:
            self._skip("stamp used twice", f"two images in a row have the stamp {stamp} ns")
            return
        decode = compressed_to_rgb if isinstance(message, CompressedImage) else image_to_rgb
        frame = Frame(decode(message), stamp, self._wait_for_labels(arrival, stamp))
        self._notice_break(frame)
        self._last = (stamp, frame.image.shape)
        semantic = self._pipeline.process(frame)
        if semantic.scene_cut:
            self._report_break("scene cut", "objects are lost until they are recognised")
        elif semantic.time_jump:
            self._report_break("time jump", "objects are kept that look like themselves")
        height, width = frame.image.shape[:2]
        size = output_size(self.config.output_width, self.config.output_height, (width, height))
        self._outputs.publish(
            Answer(message.header, frame.image, semantic, self._camera_info(), size)
        )
        latency = (self._node.get_clock().now().nanoseconds - stamp) / 1e6
        milliseconds = dict(semantic.timings_ms)
        milliseconds["arrival to publish"] = (time.monotonic() - arrival.time) * 1e3
        milliseconds["capture to publish"] = latency
        self._statistics.processed(
            milliseconds, len(semantic.objects), semantic.degraded, semantic.late
        )

    def _wait_for_labels(self, arrival: Arrival, stamp: int) -> npt.NDArray[np.integer] | None:
        """What another node says of the image; what is missing is counted."""
        if self._labels is None:
            return None
        timeout = self.config.network_timeout
        message = self._labels.wait(stamp, arrival.time, timeout)
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
                f"for {timeout:g} s: {self._labels.reason()}"
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
