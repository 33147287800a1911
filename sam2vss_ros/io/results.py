"""The results folder of `sam2vss run`: what the pipeline says about a recording.

- `labels/000000.png` ...: class id per pixel, 8 bits (16 where the catalog needs them)
- `overlay.mp4`: the recording with everything drawn on it
- `objects.jsonl`: one line per frame with its objects
- what `results_3d` adds, where the recording has depth
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sam2vss_ros.io.depth_folder import DepthFolder
from sam2vss_ros.io.live_sources import LiveSource
from sam2vss_ros.io.outputs import LineFile, check_folder, refuse_foreign, staged, write_bytes
from sam2vss_ros.io.overlay import draw_overlay
from sam2vss_ros.io.prompt_folder import PromptFolder
from sam2vss_ros.io.readers import FrameSource
from sam2vss_ros.io.results_3d import CLOUDS, OBJECTS_3D, Results3D
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.lookahead import looking_ahead
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import SemanticFrame, TrackedObject

LABELS, OVERLAY, OBJECTS = "labels", "overlay.mp4", "objects.jsonl"
RESULTS = (LABELS, OVERLAY, OBJECTS, OBJECTS_3D, CLOUDS)


@dataclass
class RunSummary:
    """What a run saw. `seconds` is the pipeline's own time, without reading and writing files;
    `timings_ms` holds milliseconds per frame by stage."""

    frames: int = 0
    seconds: float = 0.0
    timings_ms: dict[str, list[float]] = field(default_factory=dict)
    objects_max: int = 0
    track_ids: set[int] = field(default_factory=set)
    pixels_by_id: Counter[int] = field(default_factory=Counter)

    def add(self, answer: SemanticFrame, seconds: float) -> None:
        """Count one frame that took the pipeline so many seconds."""
        self.frames += 1
        self.seconds += seconds
        self.note(answer.timings_ms)
        self.objects_max = max(self.objects_max, len(answer.objects))
        self.track_ids.update(o.track_id for o in answer.objects)
        pixels = np.bincount(answer.label_image.ravel())
        self.pixels_by_id.update({i: int(pixels[i]) for i in np.flatnonzero(pixels).tolist()})

    def note(self, milliseconds: Mapping[str, float]) -> None:
        """Add what stages have taken on a frame."""
        for stage, ms in milliseconds.items():
            self.timings_ms.setdefault(stage, []).append(ms)

    @property
    def fps(self) -> float:
        """Frames per second of the pipeline's own time."""
        return self.frames / self.seconds if self.seconds else 0.0


def write_results(
    pipeline: VssPipeline,
    source: FrameSource | LiveSource,
    out: Path,
    prompts: PromptFolder | None = None,
    depth: DepthFolder | None = None,
    clouds: bool = False,
) -> RunSummary:
    """Process every frame of `source` and write labels, overlay and objects into `out`.

    prompts: what the pipeline is shown. depth: says where objects are in space. clouds: write it as
    labelled points, too. At the end they replace an earlier run in `out`, also where the run ends
    early but has seen a frame. Raises InputError for frames, prompts and depth that cannot be read
    or do not fit, and for what cannot be written.
    """
    summary = RunSummary()
    frames = tqdm(source, total=source.count or None, unit="frame", desc=source.path.name)
    with (
        staged(out, RESULTS) as stage,
        VideoWriter(stage.folder / OVERLAY, source.rate) as video,
        LineFile(stage.folder / OBJECTS) as lines,
        closing(looking_ahead(pipeline, frames)) as ahead,
        ExitStack() as opened,
    ):
        in_space = None
        if depth is not None:
            in_space = opened.enter_context(Results3D(depth, stage.folder, clouds))
        if prompts is not None:
            pipeline.reserve_ids(prompts.largest)
        (stage.folder / LABELS).mkdir()
        for index, (frame, looked) in enumerate(ahead):
            if prompts is not None:
                height, width = frame.image.shape[:2]
                prompts.ask(pipeline, index, (width, height))
            start = time.perf_counter()
            answer = pipeline.process(frame, looked)
            summary.add(answer, time.perf_counter() - start)
            if in_space is not None:
                summary.note(in_space.add(index, frame, answer))
            _write_image(stage.folder / LABELS / f"{index:06d}.png", answer.label_image)
            video.write(draw_overlay(frame.image, answer, pipeline.catalog))
            lines.write(json.dumps(frame_record(index, answer)) + "\n")
            stage.keep = True
            frames.set_postfix(objects=len(answer.objects), fps=f"{summary.fps:.1f}")
    return summary


def check_results(out: Path, overwrite: bool) -> None:
    """Raise InputError where results cannot be written into `out`, or would take the place of
    something that no run of ours has left there."""
    check_folder("out", out)
    if any((out / name).exists() for name in RESULTS):
        refuse_foreign("out", out, _is_run(out), overwrite)


def _is_run(out: Path) -> bool:
    """Whether objects.jsonl begins with a frame's line, and labels/ and clouds/ hold nothing but
    frames."""
    try:
        with (out / OBJECTS).open(encoding="utf-8") as lines:
            first = json.loads(lines.readline(1 << 20))
        folders = [out / name for name in (LABELS, CLOUDS) if (out / name).exists()]
        names = [path.name for folder in folders for path in folder.iterdir()]
    except (OSError, ValueError, RecursionError):
        return False
    ours = isinstance(first, dict) and {"frame", "stamp_ns", "objects"} <= first.keys()
    return ours and all(re.fullmatch(r"\d{6,}\.(png|ply)", name) for name in names)


def frame_record(index: int, answer: SemanticFrame) -> dict[str, Any]:
    """One line of `objects.jsonl`: a frame and its objects without their masks."""
    return {
        "frame": index,
        "stamp_ns": answer.stamp_ns,
        "keyframe": answer.keyframe,
        "carried": answer.carried,
        "coverage": round(answer.coverage, 4),
        "objects": [object_record(obj) for obj in answer.objects],
    }


def object_record(obj: TrackedObject) -> dict[str, Any]:
    """An object as plain data: boxes and centroids in pixels, scores from 0 to 1."""
    return {
        "track_id": obj.track_id,
        "state": obj.state.name.lower(),
        "class_id": int(obj.class_id),
        "class_name": obj.class_name,
        "class_score": round(float(obj.class_score), 4),
        "predicted_iou": round(float(obj.predicted_iou), 4),
        "visibility": round(float(obj.visibility), 4),
        "box": [int(v) for v in obj.box],
        "area": int(obj.area),
        "centroid": [round(float(v), 1) for v in obj.centroid],
        "age": int(obj.age),
        "frames_since_seen": int(obj.frames_since_seen),
    }


def _write_image(path: Path, image: npt.NDArray) -> None:
    write_bytes(path, cv2.imencode(path.suffix, image)[1].tobytes())
