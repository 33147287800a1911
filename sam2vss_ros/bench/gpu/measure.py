"""One configuration: engines beside upstream, the whole pipeline, and a trace of each."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from sam2vss_ros.bench.gpu.card import readings
from sam2vss_ros.bench.gpu.folder import DONE, FAILED
from sam2vss_ros.bench.gpu.grid import ENGINES, Configuration, Frames
from sam2vss_ros.bench.gpu.trace import record
from sam2vss_ros.bench.material import Discovery
from sam2vss_ros.bench.pipeline import time_pipeline
from sam2vss_ros.bench.speed import compare_speed
from sam2vss_ros.bench.streams import EngineStream, HeldModel
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import reason_of
from sam2vss_ros.io.readers import stamp_ns
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, load_model, untrained_model
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.sam2.weights import find_weights
from sam2vss_ros.types import Frame, Prompt

RATE = 30.0
OUT_OF_MEMORY = "out of memory"

DRY_POINTS = 2
"""On a side of the grid of points that objects are looked for with, in a dry run."""

Image = npt.NDArray[np.uint8]
Tell = Callable[[str], None]
T = TypeVar("T")


class DeviceLostError(RuntimeError):
    """After this error the device does nothing more in this process."""


@dataclass(frozen=True)
class Material:
    """What is measured on, and how.

    images: (H, W, 3) RGB frames, as many as `frames` asks for. objects: how many are followed at
    the most; most_for_upstream: by upstream, which takes them one by one. untrained: random
    weights, also where there are others. dry: tiny shapes stand for all.
    """

    device: torch.device
    precision: str
    images: Sequence[Image]
    frames: Frames
    objects: int
    most_for_upstream: int
    untrained: bool
    dry: bool


class Bench:
    """Measures one configuration after the other; what they share is loaded once."""

    def __init__(self, material: Material, traces: Path) -> None:
        self._material = material
        self._traces = traces
        self._model: Sam2Model | None = None
        self._loaded: tuple[str, int] | None = None
        self._prompts_of: dict[int, list[Prompt]] = {}  # by image size

    def measure(self, configuration: Configuration, tell: Tell) -> dict[str, Any]:
        """All figures of a configuration; what fails is told under `failures`, by part.

        tell: is called with the name of each part before it begins. Raises DeviceLostError, after
        which only another process can go on.
        """
        shape = configuration.tiny() if self._material.dry else configuration
        start = time.perf_counter()
        failures: dict[str, str] = {}

        def part(name: str, work: Callable[[], T]) -> T | None:
            tell(name)
            return self._attempt(name, work, failures)

        rows: list[dict[str, Any]] = []
        if not model_card(shape.model).by_affinity:
            rows = part("engines", partial(self._engines, shape)) or []
        for row in rows:
            if row["engine"] in ENGINES:
                trace = partial(self._trace, configuration, shape, row)
                row |= part(f"trace of {row['engine']}", trace) or {}
        pipelines = {
            engine: part(
                f"pipeline {engine}", partial(self._pipeline, configuration, shape, engine)
            )
            for engine in self._engines_of(shape)
        }
        return {
            "configuration": asdict(configuration),
            "status": FAILED if failures else DONE,
            "shape": {"image_size": shape.image_size, "objects": shape.objects},
            "untrained": self._untrained(shape),
            "engines": rows,
            "pipelines": {engine: found for engine, found in pipelines.items() if found},
            "failures": failures,
            "card": readings(self._material.device),  # while it is warm
            "seconds": time.perf_counter() - start,
        }

    def _attempt(self, name: str, work: Callable[[], T], failures: dict[str, str]) -> T | None:
        """What a part of the work finds; None where it fails, and why is noted."""
        found = None
        try:
            found = work()
        except torch.OutOfMemoryError:
            failures[name] = OUT_OF_MEMORY
        except Exception as error:  # whatever a driver or a library makes of this shape
            failures[name] = reason_of(error)
        if self._material.device.type == "cuda":
            gc.collect()
            try:
                torch.cuda.synchronize(self._material.device)
                torch.cuda.empty_cache()
            except RuntimeError as error:
                raise DeviceLostError(failures.get(name, reason_of(error))) from error
        return found

    def _engines_of(self, shape: Configuration) -> Sequence[str]:
        """What a user can choose: by affinity all presets are one."""
        return ENGINES[:1] if model_card(shape.model).by_affinity else ENGINES

    def _untrained(self, shape: Configuration) -> bool:
        """Whether a model runs with random weights, and its objects are held where they began."""
        card = model_card(shape.model)
        if card.by_affinity:
            return False
        return self._material.untrained or self._material.dry or find_weights(card) is None

    def _load(self, shape: Configuration) -> Sam2Model:
        if self._loaded != (shape.model, shape.image_size) or self._model is None:
            self._model, self._loaded = None, None  # the last one goes before the next one comes
            arguments = (str(self._material.device), self._material.precision, shape.image_size)
            if self._untrained(shape):
                self._model = untrained_model(shape.model, *arguments)
            else:
                self._model = load_model(shape.model, "", *arguments)
            if self._material.dry:
                _make_shallow(self._model)
            self._loaded = (shape.model, shape.image_size)
        return self._model

    def _engines(self, shape: Configuration) -> list[dict[str, Any]]:
        """The rows of `compare_speed`."""
        model, plan = self._load(shape), self._material.frames.plan
        return compare_speed(
            model,
            self._material.images[: plan.frames],
            self._prompts(shape),
            0,
            plan,
            self._untrained(shape),
            {name: PRESETS[name] for name in ENGINES},
            upstream=shape.objects <= self._material.most_for_upstream,
        )

    def _trace(
        self, configuration: Configuration, shape: Configuration, row: dict[str, Any]
    ) -> dict[str, Any]:
        """What the profiler sees of an engine; row: what was measured of it."""
        model, frames = self._load(shape), self._material.frames
        engine, untrained = row["engine"], self._untrained(shape)
        stream = EngineStream(model, shape.objects, PRESETS[engine], hold=untrained)
        size, device = model.image_size, self._material.device
        pictures = iter(self._material.images)

        def step(prompts: Sequence[Prompt] = ()) -> None:
            picture = next(pictures)
            stream.advance(functional.image_tensor(picture, size, device), prompts, picture)

        with self._arithmetic(model):
            step(self._prompts(shape))
            for _ in range(frames.warm_up - 1):
                step()
            return self._record(
                configuration,
                f"engine_{engine}",
                step,
                row["frame_ms"],
            )

    def _arithmetic(self, model: Sam2Model) -> Any:
        if model.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(model.device.type, model.dtype)

    def _pipeline(
        self, configuration: Configuration, shape: Configuration, engine: str
    ) -> dict[str, Any]:
        """What `time_pipeline` finds with users' objects, all from the first frame on, and every
        frame looked at, and what the profiler sees of the frames after."""
        device, frames = self._material.device, self._material.frames
        config = PipelineConfig(
            model=shape.model,
            device=str(device),
            precision=self._material.precision,
            image_size=shape.image_size,
            max_objects=shape.objects,
            engine=engine,
            carry="off",
        )
        if self._material.dry:
            config = dataclasses.replace(config, points_per_side=DRY_POINTS)
        model = None
        if not model_card(shape.model).by_affinity:
            loaded = self._load(shape)
            model = HeldModel.of(loaded) if self._untrained(shape) else loaded
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        pipeline = VssPipeline(Perception.load(config, model=model), config)
        height, width = self._material.images[0].shape[:2]
        pipeline.reserve_ids(shape.objects)
        for number, prompt in enumerate(self._prompts(shape), 1):
            assert prompt.mask is not None
            mask = cv2.resize(prompt.mask.view(np.uint8), (width, height), interpolation=0)
            pipeline.add_prompt(Prompt(mask=mask > 0), number)
        images = self._frames()
        found = time_pipeline(
            pipeline, islice(images, frames.warm_up + frames.timed), frames.warm_up
        )
        if device.type == "cuda":
            found["peak_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
            found["reserved_mb"] = torch.cuda.max_memory_reserved(device) / 1e6
        return found | self._record(
            configuration,
            f"pipeline_{engine}",
            lambda: pipeline.process(next(images)),
            found["stage_ms"]["frame"]["p50"],
        )

    def _frames(self) -> Iterator[Frame]:
        for index, image in enumerate(self._material.images):
            yield Frame(image, stamp_ns(index, RATE))

    def _record(
        self,
        configuration: Configuration,
        what: str,
        step: Callable[[], object],
        frame_ms: float,
    ) -> dict[str, Any]:
        """A trace beside the time of a frame that nobody watched, since profiling slows the host.

        Returns what `trace.record` does, as `trace`, and `launch_bound`: the share of a frame in
        which no kernel runs; None where there is no GPU.
        """
        path = self._traces / f"{configuration.name}_{what}.json.gz"
        seen = record(step, self._material.frames.traced, self._material.device, path)
        idle = max(0.0, 1 - seen["kernel_ms"] / frame_ms)
        on_gpu = self._material.device.type == "cuda"
        return {"trace": seen, "launch_bound": idle if on_gpu else None}

    def _prompts(self, shape: Configuration) -> list[Prompt]:
        """The same objects for all models: what the embedded one finds in the first frame, and
        tiles of it where that is not enough."""
        size, material = shape.image_size, self._material
        if size not in self._prompts_of:
            finder = Discovery("mobile", device=str(material.device), untrained=True)
            self._prompts_of[size], _ = finder.prompts(material.images[0], material.objects, size)
        return self._prompts_of[size][: shape.objects]


def _make_shallow(model: Sam2Model) -> None:
    """Leave one block of each stage of Meta's trunks: a dry run asks whether all works, and the
    large ones take most of its time."""
    trunk = model.network.image_encoder.trunk
    if hasattr(trunk, "stage_ends"):
        first = [0, *(end + 1 for end in trunk.stage_ends[:-1])]
        trunk.blocks = torch.nn.ModuleList(trunk.blocks[i] for i in first)
        trunk.stage_ends = list(range(len(first)))
