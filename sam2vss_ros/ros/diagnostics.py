"""What the node tells about itself on /diagnostics: how fast, how late, what went wrong."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from sam2vss_ros.errors import LONGEST_MESSAGE, one_line

WINDOW = 300
"""Processed frames that rates and percentiles are taken over."""

CANNOT_KEEP_UP = "slower than target_fps although everything that may be left out is"


@dataclass
class Counts:
    """Frames since the node was configured: received = processed + dropped + failed + waiting."""

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    breaks: Counter[str] = field(default_factory=Counter)
    without_labels: int = 0


class Statistics:
    """Counters and latencies of a stream, fed by the node's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()
        self._finished: deque[float] = deque(maxlen=WINDOW)
        self._stages: dict[str, deque[float]] = {}
        self._objects = 0
        self._degraded: Sequence[str] = ()
        self._late = False

    def received(self) -> None:
        """An image came."""
        with self._lock:
            self._counts.received += 1

    def dropped(self, frames: int = 1) -> None:
        """Images were not processed because others had precedence."""
        with self._lock:
            self._counts.dropped += frames

    def failed(self, reason: str) -> bool:
        """An image could not be processed. True the first time for this reason."""
        with self._lock:
            self._counts.failed[reason] += 1
            return self._counts.failed[reason] == 1

    def without_labels(self) -> None:
        """The label image of another node for an image did not come."""
        with self._lock:
            self._counts.without_labels += 1

    def reset(self) -> None:
        """The stream began anew: time ran backwards."""
        with self._lock:
            self._counts.resets += 1

    def broke(self, kind: str) -> None:
        """The stream went on after a "scene cut" or a "time jump"."""
        with self._lock:
            self._counts.breaks[kind] += 1

    def processed(
        self,
        milliseconds: Mapping[str, float],
        objects: int,
        degraded: Sequence[str] = (),
        late: bool = False,
    ) -> None:
        """An image was processed and published. `milliseconds` by stage; degraded and late as in
        SemanticFrame."""
        with self._lock:
            self._counts.processed += 1
            self._finished.append(time.monotonic())
            self._objects = objects
            self._degraded, self._late = degraded, late
            for stage, value in milliseconds.items():
                self._stages.setdefault(stage, deque(maxlen=WINDOW)).append(value)

    @property
    def late(self) -> bool:
        """The last image missed `target_fps` although everything that may be left out is."""
        return self._late

    def counts(self) -> Counts:
        """A copy of the counters."""
        with self._lock:
            c = self._counts
            return dataclasses.replace(c, failed=Counter(c.failed), breaks=Counter(c.breaks))

    def values(self) -> dict[str, str]:
        """Everything by name, as text."""
        counts = self.counts()
        with self._lock:
            finished = list(self._finished)
            stages = {name: np.array(values) for name, values in self._stages.items()}
            objects, degraded = self._objects, self._degraded
        values = {
            "rate (Hz)": f"{rate(finished, time.monotonic()):.2f}",
            "frames in": str(counts.received),
            "frames processed": str(counts.processed),
            "frames dropped": str(counts.dropped),
            "frames failed": str(sum(counts.failed.values())),
        }
        values |= {f"failed: {reason}": str(n) for reason, n in sorted(counts.failed.items())}
        values["stream resets"] = str(counts.resets)
        values |= {f"{kind}s": str(counts.breaks[kind]) for kind in ("scene cut", "time jump")}
        if counts.without_labels:
            values["frames without labels"] = str(counts.without_labels)
        values["objects"] = str(objects)
        values["degraded"] = "; ".join(degraded) or "nothing"
        for name, milliseconds in stages.items():
            p50, p95 = np.percentile(milliseconds, (50, 95))
            values[f"{name} p50 (ms)"] = f"{p50:.1f}"
            values[f"{name} p95 (ms)"] = f"{p95:.1f}"
        return values


def rate(finished: Sequence[float], now: float, seconds: float = 5.0) -> float:
    """Frames per second over the last `seconds`; `finished` and `now` are monotonic seconds."""
    recent = [t for t in finished if now - t <= seconds]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


def resident_bytes() -> int:
    """Memory of this process that is in RAM (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Reporter:
    """Makes the DiagnosticStatus of a camera; remembers what it has reported to tell what is new.

    camera: its name, empty for the only one of a node.
    """

    def __init__(self, node_name: str, camera: str = "") -> None:
        place = f"{node_name}/{camera}" if camera else node_name
        self._name = f"{place.lstrip('/')}: video semantic segmentation"
        # One silent camera of several is stale; the only one of a node is the node's trouble.
        self._silent = DiagnosticStatus.STALE if camera else DiagnosticStatus.WARN
        self._reported = Counts()

    def status(
        self,
        state: str,
        statistics: Statistics,
        silence: str,
        drops_are_normal: bool,
        facts: Mapping[str, str],
    ) -> DiagnosticStatus:
        """The status at this moment: ERROR when nothing but failures came since the last one, WARN
        for failed frames, drops where they are not normal, labels of another node that did not come
        and a `target_fps` that cannot be kept, else OK; for silence (its text) STALE where the
        camera is one of several, and WARN where it is the only one.

        state: active, disabled or inactive. facts: device, model and the like, added to the values.
        """
        counts = statistics.counts()
        failed = counts.failed - self._reported.failed
        processed = counts.processed - self._reported.processed
        dropped = counts.dropped - self._reported.dropped
        unlabelled = counts.without_labels - self._reported.without_labels
        self._reported = counts
        level, message = DiagnosticStatus.OK, state
        if statistics.late:
            level, message = DiagnosticStatus.WARN, CANNOT_KEEP_UP
        if unlabelled:
            level = DiagnosticStatus.WARN
            message = f"the labels of {unlabelled} images did not come in time on dense_labels"
        if silence:
            level, message = self._silent, silence
        if dropped and not drops_are_normal:
            level, message = DiagnosticStatus.WARN, f"{dropped} frames dropped, the queue is full"
        if failed:
            level = DiagnosticStatus.WARN if processed else DiagnosticStatus.ERROR
            message = "frames failed: " + ", ".join(f"{n} {why}" for why, n in failed.items())
        values = dict(facts) | statistics.values()
        values["resident memory (MB)"] = f"{resident_bytes() / 1e6:.0f}"
        return DiagnosticStatus(
            level=level,
            name=self._name,
            message=one_line(message, LONGEST_MESSAGE),
            hardware_id=facts.get("device", ""),
            values=[KeyValue(key=key, value=one_line(value)) for key, value in values.items()],
        )
