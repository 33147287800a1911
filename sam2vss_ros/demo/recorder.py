"""The demo's listener: writes down what the node publishes for a camera.

Reports `state` (of the node's life cycle) until it is `ready`: the node is active and all its
topics are connected; then `label` and `objects` with their stamps, `catalog` and `diagnostics`;
at the end, on SIGINT, `labelled` (pixels by class id) and `recorded` (the stamp with which the
overlay begins). Writes overlay.mp4 and objects.jsonl.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2vss_ros.demo.process import emit
from sam2vss_ros.io.outputs import LineFile
from sam2vss_ros.io.ros_images import pixels_of
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.msg import ClassCatalog, TrackedObject, TrackedObjectArray
from sam2vss_ros.types import TrackState

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ANSWER_LIMIT = 2.0  # seconds for an answer of the node; then it is asked again


def main() -> None:
    """Run the recorder: its arguments are what `sam2vss_ros.demo` gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True, help="name of the node with its namespace")
    parser.add_argument("--prefix", required=True, help="of the camera's topics: front/, or empty")
    parser.add_argument("--namespace", required=True, help="of the recorder itself")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    options = parser.parse_args()
    rclpy.init()
    executor = SingleThreadedExecutor()
    with LineFile(options.out / "objects.jsonl") as lines:
        video = Video(options.out / "overlay.mp4", options.rate)
        recorder = Recorder(options.node, options.prefix, options.namespace, video, lines)
        executor.add_node(recorder)
        try:
            executor.spin()
        except (KeyboardInterrupt, ExternalShutdownException):
            pass  # the parent process ends the recording
        finally:
            recorder.finish()
            recorder.destroy_node()
            executor.shutdown()
            rclpy.try_shutdown()


QUEUE = 100
"""Messages that wait for the recorder on a busy machine, of each topic."""


class Recorder(Node):
    """Subscribes to everything that the node `target` publishes for the users of one camera.

    prefix: what the node puts before the camera's topics, empty where it has only one.
    """

    def __init__(
        self, target: str, prefix: str, namespace: str, video: Video, lines: LineFile
    ) -> None:
        super().__init__("recorder", namespace=namespace)
        topics = f"{target}/{prefix}".rstrip("/")
        self._status = f"{topics.lstrip('/')}: "
        self._video = video
        self._lines = lines
        self._pixels = np.zeros(1 << 16, np.int64)
        reliable = QoSProfile(depth=QUEUE)
        self._needed = [
            self.create_subscription(Image, f"{topics}/label_image", self._on_labels, reliable),
            self.create_subscription(Image, f"{topics}/overlay", self._on_overlay, reliable),
            self.create_subscription(
                TrackedObjectArray, f"{topics}/objects", self._on_objects, reliable
            ),
        ]
        self.create_subscription(ClassCatalog, f"{topics}/class_catalog", self._on_catalog, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable)
        self._state = self.create_client(GetState, f"{target}/get_state")
        self._answer: Future | None = None
        self._asked = 0.0
        self._ready = False
        # Runs to the end: without a timer the executor now and then sleeps through a signal.
        self.create_timer(0.1, self._ask_state)

    def finish(self) -> None:
        """Close the files and report the sums."""
        self._video.close()
        used = np.flatnonzero(self._pixels)
        emit("labelled", pixels={int(i): int(self._pixels[i]) for i in used})
        emit("recorded", begins=self._video.begins)

    def _ask_state(self) -> None:
        if self._ready:
            return
        if self._answer is None:
            if self._state.service_is_ready():
                self._answer = self._state.call_async(GetState.Request())
                self._asked = time.monotonic()
        elif self._answer.done():
            state = self._answer.result().current_state
            self._answer = None
            connected = all(self.count_publishers(s.topic_name) for s in self._needed)
            if state.id == State.PRIMARY_STATE_ACTIVE and connected:
                self._ready = True
                emit("ready")
            else:
                emit("state", label=state.label)
        elif time.monotonic() - self._asked > ANSWER_LIMIT:
            # DDS drops an answer when the one who asks was discovered only on the way there.
            self._state.remove_pending_request(self._answer)
            self._answer = None

    def _on_labels(self, message: Image, info: Any) -> None:
        labels = pixels_of(message)
        self._pixels += np.bincount(labels.ravel(), minlength=self._pixels.size)
        stamp = stamp_of(message.header)
        emit("label", stamp=stamp, received=info["received_timestamp"])

    def _on_objects(self, message: TrackedObjectArray) -> None:
        objects = [describe(o) for o in message.objects]
        stamp = stamp_of(message.header)
        record = {"stamp": stamp, "frame_id": message.header.frame_id, "objects": objects}
        self._lines.write(json.dumps(record) + "\n")
        seen = sum(o.frames_since_seen == 0 for o in message.objects)
        emit("objects", stamp=stamp, seen=seen, track_ids=[o.track_id for o in message.objects])

    def _on_overlay(self, message: Image) -> None:
        self._video.show(pixels_of(message), message.header)

    def _on_catalog(self, message: ClassCatalog) -> None:
        classes = [
            {"id": e.id, "name": e.name, "color": [e.r, e.g, e.b], "thing": e.thing}
            for e in message.entries
        ]
        emit("catalog", name=message.name, unlabelled_id=message.unlabelled_id, classes=classes)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._status):
                emit("diagnostics", values={v.key: v.value for v in status.values})


class Video:
    """An MP4 in real time: a picture stays until the next one's stamp.

    `begins` is the stamp of the first one in nanoseconds.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.begins = 0
        self._writer = VideoWriter(path, rate)
        self._rate = rate
        self._written = 0
        self._shown: npt.NDArray[np.uint8] | None = None

    def show(self, image: npt.NDArray[np.uint8], header: Header) -> None:
        """Show an (H, W, 3) RGB image from its stamp on. Raises InputError as VideoWriter does."""
        if self._shown is None:
            self.begins = stamp_of(header)
        else:
            begin = round((stamp_of(header) - self.begins) / 1e9 * self._rate)
            while self._written < begin:
                self._writer.write(self._shown)
                self._written += 1
        self._shown = image

    def close(self) -> None:
        """Show the last image once more and finish the file."""
        if self._shown is not None:
            self._writer.write(self._shown)
        self._writer.close()


def describe(o: TrackedObject) -> dict[str, Any]:
    """An object for objects.jsonl: the message's fields without mask and probabilities."""
    return {
        "track_id": o.track_id,
        "state": TrackState(o.state).name.lower(),
        "class_id": o.class_id,
        "class_name": o.class_name,
        "class_score": round(o.class_score, 4),
        "predicted_iou": round(o.predicted_iou, 4),
        "visibility": round(o.visibility, 4),
        "age": o.age,
        "frames_since_seen": o.frames_since_seen,
        "box": [o.box.x_offset, o.box.y_offset, o.box.width, o.box.height],
        "area": o.area,
        "centroid": [round(o.centroid_x, 2), round(o.centroid_y, 2)],
    }


def stamp_of(header: Header) -> int:
    """The header's stamp in nanoseconds."""
    return int(Time.from_msg(header.stamp).nanoseconds)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"recorder: {error.filename}: {error.strerror}")
