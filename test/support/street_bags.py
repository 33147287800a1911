"""Small bags of the drawn street with its labels, and workers that die on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam2vss_ros.commands.labellers import LabellerTools, PipelineTools
from sam2vss_ros.io.bag_writer import header, image_message, label_message, new_bag
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import make_clip

IMAGES, LABELS = "/camera/image_raw", "/camera/labels"
STAMP, STEP = 1_700_000_000_000_000_000, 100_000_000
SIZE = 96, 128


def street_bag(path: Path, seed: int, count: int, labels: bool = True) -> Path:
    """Images of 10 Hz; labels of all but the last one."""
    clip = make_clip(seed, count, SIZE, kind="street")
    ids = np.where(clip.class_ids < 0, 255, clip.class_ids).astype(np.uint8)
    with new_bag(path, "mcap") as bag:
        for i, (image, instances) in enumerate(zip(clip.frames, clip.instances, strict=True)):
            head = header(STAMP + i * STEP, "front")
            bag.write(IMAGES, image_message(image, "rgb8", head), STAMP + i * STEP)
            if labels and i < count - 1:
                bag.write(LABELS, label_message(ids[instances], head), STAMP + i * STEP)
    return path


@dataclass(frozen=True)
class DyingPipeline(PipelineTools):
    """A pipeline whose process is killed at its `at`th frame; once, where there is a `marker`,
    which is written then."""

    marker: Path | None
    at: int

    @contextmanager
    def open(self) -> Iterator[VssPipeline]:  # type: ignore[override]
        with super().open() as pipeline:
            _make_deadly(pipeline, self.marker, self.at)
            yield pipeline


@dataclass(frozen=True)
class DyingLabeller(LabellerTools):
    """Likewise a labeller."""

    marker: Path | None
    at: int

    @contextmanager
    def open(self) -> Iterator[Any]:  # type: ignore[override]
        with super().open() as (labeller, config):
            _make_deadly(labeller.pipeline, self.marker, self.at)  # type: ignore[attr-defined]
            yield labeller, config


def _make_deadly(pipeline: VssPipeline, marker: Path | None, at: int) -> None:
    process, seen = pipeline.process, 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == at and not (marker and marker.exists()):
            if marker:
                marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return process(*arguments, **options)

    pipeline.process = deadly  # type: ignore[method-assign]
