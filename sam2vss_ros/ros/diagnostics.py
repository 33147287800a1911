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

BREAKS = ("stream reset", "scene cut", "time jump", "size change")
"""Where a stream does not simply go on."""

CANNOT_KEEP_UP = "slower than target_fps although everything that may be left out is"


@dataclass
class Counts:
    """Frames since the node was configured: received = processed + dropped + failed + waiting.

    dropped: those out of order included. carried: of those processed, as in SemanticFrame.
    """

    received: int = 0
    processed: int = 0
    carried: int = 0
    dropped: int = 0
    out_of_order: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    without_labels: int = 0
    without_stamp: int = 0
    without_depth: Counter[str] = field(default_factory=Counter)

    def copy(self) -> Counts:
        """The counts as they stand."""
        return dataclasses.replace(
            self,
            failed=Counter(self.failed),
            breaks=Counter(self.breaks),
            without_depth=Counter(self.without_depth),
        )

    def since(self, before: Counts) -> Counts:
        """What was added to the counts `before`."""
        names = [f.name for f in dataclasses.fields(self)]
        return Counts(**{name: getattr(self, name) - getattr(before, name) for name in names})


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

    def out_of_order(self) -> None:
        """An image was dropped since it is a little older than the last."""
        with self._lock:
            self._counts.dropped += 1
            self._counts.out_of_order += 1

    def without_stamp(self) -> None:
        """An image goes by its arrival."""
        with self._lock:
            self._counts.without_stamp += 1

    def failed(self, reason: str) -> bool:
        """An image could not be processed. True the first time for this reason."""
        with self._lock:
            self._counts.failed[reason] += 1
            return self._counts.failed[reason] == 1

    def without_labels(self) -> None:
        """The label image of another node for an image did not come."""
        with self._lock:
            self._counts.without_labels += 1

    def without_depth(self, reason: str) -> bool:
        """Somebody listened to what is made of depth, and an image had none of use. True the first
        time for this reason."""
        with self._lock:
            self._counts.without_depth[reason] += 1
            return self._counts.without_depth[reason] == 1

    def broke(self, kind: str) -> None:
        """The stream did not simply go on, in one of the ways of BREAKS."""
        with self._lock:
            self._counts.breaks[kind] += 1

    def processed(
        self,
        milliseconds: Mapping[str, float],
        objects: int,
        degraded: Sequence[str] = (),
        late: bool = False,
        carried: bool = False,
    ) -> None:
        """An image was processed and published. `milliseconds` by stage; degraded, late and carried
        as in SemanticFrame."""
        with self._lock:
            self._counts.processed += 1
            self._counts.carried += carried
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
            return self._counts.copy()

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
            "frames carried": str(counts.carried),
            "frames dropped": str(counts.dropped),
            "frames out of order": str(counts.out_of_order),
            "frames failed": str(sum(counts.failed.values())),
        }
        values |= {f"failed: {reason}": str(n) for reason, n in sorted(counts.failed.items())}
        values |= {f"{kind}s": str(counts.breaks[kind]) for kind in BREAKS}
        if counts.without_stamp:
            values["frames without stamp"] = str(counts.without_stamp)
        if counts.without_labels:
            values["frames without labels"] = str(counts.without_labels)
        for reason, n in sorted(counts.without_depth.items()):
            values[f"frames without depth: {reason}"] = str(n)
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
        crowds: Sequence[str],
        drops_are_normal: bool,
        facts: Mapping[str, str],
    ) -> DiagnosticStatus:
        """The status at this moment: ERROR when nothing but failures came since the last one, WARN
        for whatever else has not gone as it should, else OK; for silence STALE where the camera is
        one of several, and WARN where it is the only one. The message says all of it.

        state: active, disabled or inactive. silence: why no image comes, if none does. crowds: who
        publishes on one topic, where they are several. facts: device, model and the like, added to
        the values.
        """
        counts = statistics.counts()
        new = counts.since(self._reported)
        self._reported = counts
        notices = _notices(new, drops_are_normal)
        if silence:
            notices.insert(0, silence)
        notices += filter(None, crowds)
        if statistics.late:
            notices.append(CANNOT_KEEP_UP)
        message = "; ".join(notices)
        level = DiagnosticStatus.WARN if message else DiagnosticStatus.OK
        if silence:
            level = self._silent
        if new.failed and not new.processed:
            level = DiagnosticStatus.ERROR
        values = dict(facts) | statistics.values()
        values["resident memory (MB)"] = f"{resident_bytes() / 1e6:.0f}"
        return DiagnosticStatus(
            level=level,
            name=self._name,
            message=one_line(message or state, LONGEST_MESSAGE),
            hardware_id=facts.get("device", ""),
            values=[KeyValue(key=key, value=one_line(value)) for key, value in values.items()],
        )


def _notices(new: Counts, drops_are_normal: bool) -> list[str]:
    """What has gone wrong since the last report, the worst first."""
    notices = []
    if new.failed:
        notices.append(f"frames failed: {', '.join(f'{n} {why}' for why, n in new.failed.items())}")
    overflow = new.dropped - new.out_of_order
    if overflow and not drops_are_normal:
        notices.append(f"{overflow} frames dropped, the queue is full")
    if new.out_of_order:
        notices.append(f"{new.out_of_order} frames out of order dropped")
    notices += [f"{kind}s: {n}" for kind, n in new.breaks.items()]
    if new.without_stamp:
        notices.append(f"{new.without_stamp} frames without a stamp go by their arrival")
    if new.without_labels:
        notices.append(
            f"the labels of {new.without_labels} images did not come in time on dense_labels"
        )
    notices += [f"frames without 3-D: {n} {why}" for why, n in new.without_depth.items()]
    return notices
