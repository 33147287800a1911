"""The whole pipeline on a recording: how long each of its stages takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from sam2vss_ros.bench.measure import summarise
from sam2vss_ros.bench.memory import resident_bytes
from sam2vss_ros.io.results import RunSummary
from sam2vss_ros.lookahead import looking_ahead
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame


def time_pipeline(pipeline: VssPipeline, frames: Iterable[Frame], warm_up: int) -> dict[str, Any]:
    """Process all frames; those after the first `warm_up` are timed.

    Returns fps, frames, objects (most at a time), in_sight (those that are seen, the mean of the
    frames), ids, resident_mb (what the process holds at the end), and stage_ms with p50 and p95 of
    the frames and their mean, by stage and for the `frame` as a whole.
    """
    summary = RunSummary()
    whole: list[float] = []
    in_sight = 0
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        answer = pipeline.process(frame)
        seconds = time.perf_counter() - start
        if index >= warm_up:
            summary.add(answer, seconds)
            whole.append(seconds * 1e3)
            in_sight += sum(obj.area > 0 for obj in answer.objects)
    if not whole:
        raise ValueError(f"frames: the first {warm_up} are not timed; give more")
    stages = {**summary.timings_ms, "frame": whole}
    return {
        "fps": summary.fps,
        "frames": summary.frames,
        "objects": summary.objects_max,
        "in_sight": in_sight / summary.frames,
        "ids": len(summary.track_ids),
        "resident_mb": round(resident_bytes() / 1e6, 1),
        "median_fps": 1e3 / float(np.median(whole)),
        "stage_ms": {name: summarise(ms, len(whole)) for name, ms in stages.items()},
    }


def ahead_fps(pipeline: VssPipeline, frames: Iterable[Frame], warm_up: int) -> float:
    """Frames per second, reading included, where the networks look ahead; those after the
    first `warm_up` are timed."""
    start, timed = time.perf_counter(), -warm_up
    for frame, looked in looking_ahead(pipeline, frames):
        pipeline.process(frame, looked)
        timed += 1
        if timed == 0:
            start = time.perf_counter()
    return timed / (time.perf_counter() - start)


def object_ms(
    many: VssPipeline, few: VssPipeline, frames: Iterable[Frame], warm_up: int
) -> dict[str, float]:
    """What an object more in sight adds to a frame: in milliseconds (`object_ms`), beside the frame
    times and objects in sight of both pipelines, those after the first `warm_up` frames.

    Both take each frame in turn, so that what else the machine does falls on both alike. Raises
    ValueError where `many` has no more objects in sight than `few`.
    """
    ms, in_sight = np.zeros(2), np.zeros(2)
    timed = -warm_up
    for frame in frames:
        timed += 1
        for i in (0, 1) if timed % 2 else (1, 0):
            start = time.perf_counter()
            answer = (many, few)[i].process(frame)
            if timed > 0:
                ms[i] += (time.perf_counter() - start) * 1e3
                in_sight[i] += sum(obj.area > 0 for obj in answer.objects)
    if in_sight[0] <= in_sight[1]:
        raise ValueError("beside: no more objects are in sight than with fewer; give less")
    return {
        "object_ms": float((ms[0] - ms[1]) / (in_sight[0] - in_sight[1])),
        "frame_ms": float(ms[0] / timed),
        "beside_frame_ms": float(ms[1] / timed),
        "in_sight": float(in_sight[0] / timed),
        "beside_in_sight": float(in_sight[1] / timed),
    }
