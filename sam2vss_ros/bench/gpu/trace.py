"""What torch's profiler sees of some frames: kernels, copies between host and device, and waits."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from sam2vss_ros.io.outputs import write_bytes
from sam2vss_ros.stream.stopwatch import Clock

TOP = 10
"""Operators and kernels that are named."""

COMPRESSION = 4
"""Of the traces, which are large and much alike: more takes longer and saves little."""

DIRECTIONS = {"HtoD": "up", "DtoH": "down"}
"""How the profiler calls copies from the host to the device, and back."""

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")

Event = Mapping[str, Any]


def record(
    step: Callable[[], object], frames: int, device: torch.device, path: Path
) -> dict[str, Any]:
    """Do a step for each of `frames` frames, and one before, watched by torch's profiler.

    path: where the trace goes, `.json.gz` in Chrome's format (chrome://tracing, ui.perfetto.dev).
    Returns `summary` of it.
    """
    clock = Clock(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if clock.on_gpu else [])]
    with profile(activities=activities, schedule=schedule(wait=0, warmup=1, active=frames)) as seen:
        for index in range(frames + 1):
            step()
            clock.synchronise()
            if index < frames:  # a step more would begin another round
                seen.step()
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(plain))
        text = plain.read_bytes()
    write_bytes(path, gzip.compress(text, COMPRESSION))
    events = json.loads(text)["traceEvents"]
    return {"file": path.name, "frames": frames, **summary(events, frames)}


def summary(events: Iterable[Event], frames: int) -> dict[str, Any]:
    """Of the events of a trace in Chrome's format, per frame:

    kernel_ms: in which some kernel runs; launches: kernels; top_kernels: by their time. copies: up
    (to the device) and down, their number, kilobytes, milliseconds, and how many of them are of
    memory that is not pinned. waits: how often the host waits for the device, and how long.
    top_operators: those of torch that took most by themselves, on the device where it did anything.
    """
    spans = [event for event in events if event.get("ph") == "X"]
    kernels = [event for event in spans if event.get("cat") == "kernel"]
    copies = [event for event in spans if event.get("cat") == "gpu_memcpy"]
    waits = [
        event
        for event in spans
        if event.get("cat") in ("cuda_runtime", "cuda_driver")
        and event["name"].endswith("Synchronize")
    ]
    return {
        "kernel_ms": _covered(kernels) / 1e3 / frames,
        "launches": len(kernels) / frames,
        "copies": {
            direction: _copied([c for c in copies if mark in c["name"]], frames)
            for mark, direction in DIRECTIONS.items()
        },
        "waits": {"count": len(waits) / frames, "ms": _total(waits) / 1e3 / frames},
        "top_kernels": _kernels(kernels, frames),
        "top_operators": _operators(spans, frames),
    }


def _copied(copies: Sequence[Event], frames: int) -> dict[str, float]:
    return {
        "count": len(copies) / frames,
        "kb": sum(c.get("args", {}).get("bytes", 0) for c in copies) / 1e3 / frames,
        "ms": _total(copies) / 1e3 / frames,
        "not_pinned": sum("Pageable" in c["name"] for c in copies) / frames,
    }


def _kernels(kernels: Sequence[Event], frames: int) -> list[dict[str, Any]]:
    """The kernels that took most, with calls and milliseconds of a frame."""
    by_name: dict[str, list[Event]] = defaultdict(list)
    for kernel in kernels:
        by_name[kernel["name"]].append(kernel)
    found: list[dict[str, Any]] = [
        {"name": name, "calls": len(each) / frames, "ms": _total(each) / 1e3 / frames}
        for name, each in by_name.items()
    ]
    return sorted(found, key=lambda each: each["ms"], reverse=True)[:TOP]


def _operators(spans: Sequence[Event], frames: int) -> list[dict[str, Any]]:
    """The operators that took most, with calls and milliseconds of a frame: on the host without
    what they called, on the device what they launched themselves."""
    launched: dict[Any, float] = defaultdict(float)  # operator's number -> microseconds
    for span in spans:
        if span.get("cat") in ON_DEVICE:
            launched[span.get("args", {}).get("External id")] += float(span["dur"])
    rows: dict[str, dict[str, Any]] = {}
    for operator, alone in _alone([s for s in spans if s.get("cat") == "cpu_op"]):
        new = {"name": operator["name"], "calls": 0.0, "host_ms": 0.0, "device_ms": 0.0}
        row = rows.setdefault(operator["name"], new)
        row["calls"] += 1 / frames
        row["host_ms"] += alone / 1e3 / frames
        number = operator.get("args", {}).get("External id")
        row["device_ms"] += launched.pop(number, 0.0) / 1e3 / frames
    return sorted(rows.values(), key=lambda r: (r["device_ms"], r["host_ms"]), reverse=True)[:TOP]


def _alone(operators: Sequence[Event]) -> Iterator[tuple[Event, float]]:
    """Operators, and the microseconds that each took beside those that it called."""
    threads: dict[Any, list[Event]] = defaultdict(list)
    for operator in operators:
        threads[operator.get("tid")].append(operator)
    for thread in threads.values():
        thread.sort(key=lambda o: (float(o["ts"]), -float(o["dur"])))
        alone = [float(o["dur"]) for o in thread]
        callers: list[int] = []
        for i, operator in enumerate(thread):
            start = float(operator["ts"])
            while callers and start >= float(thread[callers[-1]]["ts"]) + float(
                thread[callers[-1]]["dur"]
            ):
                callers.pop()
            if callers:
                alone[callers[-1]] -= float(operator["dur"])
            callers.append(i)
        yield from zip(thread, alone, strict=True)


def _total(events: Sequence[Event]) -> float:
    """Microseconds."""
    return sum(float(event["dur"]) for event in events)


def _covered(events: Sequence[Event]) -> float:
    """Microseconds in which at least one of them runs."""
    covered, end = 0.0, float("-inf")
    for start, length in sorted((float(e["ts"]), float(e["dur"])) for e in events):
        covered += max(0.0, start + length - max(start, end))
        end = max(end, start + length)
    return covered
