"""Memory: does a stream that never ends hold no more than one that has just begun?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2vss_ros.io.readers import stamp_ns
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import street_video
from sam2vss_ros.types import Frame

RATE = 30.0
SETTLING = 0.05
"""Share of the frames after which the process should have all the memory it needs."""

FLAT = 0.02
"""How much the process's memory may differ from then on, as a share of the least."""

SAMPLES = 200
"""How often the state is noted."""

SCENE_FRAMES = 150
"""Frames from one cut to the next, at which all that moves is gone and others are there."""


@dataclass(frozen=True)
class Sample:
    """The state after `frame` frames: bytes of the engine and of the process (resident), objects
    in memory, and ids given so far."""

    frame: int
    engine_bytes: int
    process_bytes: int
    objects: int
    ids: int


@dataclass
class Ids:
    """Watches that every new object has an id higher than all before, and no id comes back."""

    highest: int = 0
    given: int = 0
    misused: list[int] = field(default_factory=list)
    _here: set[int] = field(default_factory=set)

    def see(self, ids: list[int]) -> None:
        """Note the ids of the objects in memory after a frame."""
        new = sorted(set(ids) - self._here)
        self.misused += [i for i in new if i <= self.highest]
        self.misused += [i for i in set(ids) if ids.count(i) > 1]
        self.given += len(new)
        self.highest = max([self.highest, *new])
        self._here = set(ids)


@dataclass(frozen=True)
class Endurance:
    """What a long run showed."""

    samples: list[Sample]
    misused_ids: list[int]
    seconds: float

    @property
    def engine_growth(self) -> int:
        """Difference of the most and the least bytes that the engine held."""
        held = [s.engine_bytes for s in self.samples]
        return max(held) - min(held)

    @property
    def process_growth(self) -> float:
        """The same of the process after it has settled, as a share of the least."""
        last = self.samples[-1].frame
        resident = [s.process_bytes for s in self.samples if s.frame >= SETTLING * last]
        return max(resident) / min(resident) - 1

    @property
    def problems(self) -> list[str]:
        """What is not as it should be, in words."""
        found = []
        if self.engine_growth:
            found.append(f"the bytes of the engine differ by {self.engine_growth}")
        if self.process_growth > FLAT:
            found.append(
                f"the memory of the process differs by {self.process_growth:.1%} after the first "
                f"{SETTLING:.0%} of the frames; {FLAT:.0%} are allowed"
            )
        if self.misused_ids:
            found.append(f"ids were used twice: {self.misused_ids[:5]}")
        return found


def endure(pipeline: VssPipeline, frames: Iterator[npt.NDArray[np.uint8]], count: int) -> Endurance:
    """Run `count` (at least 20) images, (H, W, 3) RGB, as one stream."""
    every = max(1, count // SAMPLES)
    samples, ids = [], Ids()
    start = time.perf_counter()
    for index, image in enumerate(frames):
        answer = pipeline.process(Frame(image, stamp_ns(index, RATE)))
        ids.see([obj.track_id for obj in answer.objects])
        if index % every == 0 or index == count - 1:
            samples.append(
                Sample(
                    index + 1,
                    pipeline.memory_bytes(),
                    resident_bytes(),
                    len(answer.objects),
                    ids.given,
                )
            )
    return Endurance(samples, ids.misused, time.perf_counter() - start)


def endless_street(frames: int, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Drives along ever new streets, (height, width, 3) RGB, with a cut from one to the next."""
    for seed, first in enumerate(range(0, frames, SCENE_FRAMES)):
        for image, _, _ in street_video(seed, min(SCENE_FRAMES, frames - first), size):
            yield image


def resident_bytes() -> int:
    """Memory that this process occupies now. Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
