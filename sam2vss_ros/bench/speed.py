"""Speed: our engine with each of its options, and upstream's predictor, frame by frame in turn.

Every row sees the same frames and the same prompts. All take each frame one after the other, in an
order that moves on with every frame, so that whatever else the machine does falls on all alike.
Frames are timed from the image's tensor to the masks, with image encoder and memory write, and with
the flow where objects rest, once every engine has as many memories as the network can use. The last
frames are not timed: their arithmetic and their memory are counted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2vss_ros.bench.measure import Cost, StageClock, cost_of, matrix_rate
from sam2vss_ros.bench.parity import mask_iou
from sam2vss_ros.bench.streams import EngineStream, Picture, Stream, UpstreamStream
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, untrained_model
from sam2vss_ros.sam2.options import PRESETS, TrackingOptions
from sam2vss_ros.stream.stopwatch import Clock
from sam2vss_ros.types import Prompt

OUR_STAGES = {
    "encode_image": "encode",
    "attend_to_memory": "attention",
    "decode": "decode",
    "encode_memory": "memory write",
    "encode_memory_in_windows": "memory write",
    "memory_tokens": "memory write",
}
"""Functions of `sam2.functional` and the stages of a frame that they are."""

UPSTREAM_STAGES = {
    "forward_image": "encode",
    "_prepare_memory_conditioned_features": "attention",
    "_forward_sam_heads": "decode",
    "_encode_new_memory": "memory write",
}
"""The same of upstream's predictor."""

UPSTREAM, EXACT = "upstream", "exact"

STAND_IN = "sam2.1_hiera_tiny"
"""What upstream runs, untrained, beside a model that it has not: the smallest of its own."""


def engines() -> dict[str, TrackingOptions]:
    """exact, exact with each option alone, and fast.

    An option has the value of the fast preset.
    """
    exact, fast = PRESETS[EXACT], PRESETS["fast"]
    single = {}
    for field in dataclasses.fields(TrackingOptions):
        value = getattr(fast, field.name)
        single[field.name] = dataclasses.replace(exact, **{field.name: value})
    return {EXACT: exact, **single, "fast": fast}


@dataclass(frozen=True)
class Plan:
    """Which frames are for what: the first `warm_up` fill the memory, the next `timed` are timed,
    in beats of `beat` frames (in which every object is followed), the last `beat` are counted."""

    warm_up: int
    beat: int
    timed: int

    @staticmethod
    def of(network: SAM2Base, tested: Iterable[TrackingOptions], frames: int) -> Plan:
        """Raises ValueError where `frames` are too few."""
        # Who rests writes no memory, so that it takes as many more frames to fill.
        beat = max(1 if options.rest is None else options.rest.turns for options in tested)
        warm_up = beat * network.num_maskmem
        timed = (frames - warm_up - beat) // beat * beat
        if timed < beat:
            raise ValueError(
                f"frames: {frames} are too few, the memory takes {warm_up} to fill and {beat} are "
                f"counted; give at least {warm_up + 2 * beat}"
            )
        return Plan(warm_up, beat, timed)

    @property
    def frames(self) -> int:
        return self.warm_up + self.timed + self.beat


class _Row:
    """One engine of the comparison, and what is known of it so far."""

    def __init__(
        self, name: str, stream: Stream, watched: object, model: Sam2Model, dtype: torch.dtype
    ) -> None:
        self.name = name
        self.stream = stream
        self._names = OUR_STAGES if isinstance(stream, EngineStream) else UPSTREAM_STAGES
        self._watched = watched
        self._device, self.dtype = model.device, dtype
        self._clock = Clock(model.device)
        self._stages = StageClock(self._clock)
        self._ms: list[float] = []
        self._ious: list[Tensor] = []
        self._costs: list[Cost] = []

    def advance(
        self, image: Tensor, prompts: Sequence[Prompt], picture: Picture, timed: bool
    ) -> None:
        self._clock.synchronise()
        with self._stages.watching(self._watched, self._names), self._arithmetic():
            start = time.perf_counter()
            self.stream.advance(image, prompts, picture)
            self._clock.synchronise()
            ms = (time.perf_counter() - start) * 1e3
        self._stages.lap(timed, ms)
        if timed:
            self._ms.append(ms)

    def count(self, image: Tensor, picture: Picture) -> None:
        with self._arithmetic():
            self._costs.append(
                cost_of(lambda: self.stream.advance(image, picture=picture), self._device)
            )

    def compare(self, reference: _Row) -> None:
        """Note the IoU with the reference of the objects that it sees on this frame."""
        there = (reference.stream.masks > 0).flatten(1).any(1)
        iou = mask_iou(self.stream.masks, reference.stream.masks)
        self._ious.append(torch.where(there, iou, torch.nan))

    def _arithmetic(self) -> AbstractContextManager[None]:
        on = self.dtype != torch.float32
        return torch.autocast(self._device.type, self.dtype if on else torch.bfloat16, enabled=on)

    def mean_iou(self, objects: int) -> float:
        """Over the first `objects` objects and all frames."""
        return float(torch.stack(self._ious)[:, :objects].nanmean())

    def summary(self, beat: int, rate: float) -> dict[str, Any]:
        beats = np.array(self._ms).reshape(-1, beat).mean(1)
        ms = float(np.median(beats))
        flops = sum(cost.flops for cost in self._costs) / len(self._costs)
        working = max(cost.working_bytes for cost in self._costs)
        held = self.stream.held_bytes()
        return {
            "engine": self.name,
            "fps": 1e3 / ms,
            "frame_ms": ms,
            "peak_mb": (held + working) / 1e6,
            "held_mb": held / 1e6,
            "working_mb": working / 1e6,
            "gflop": flops / 1e9,
            "gflops": flops / ms / 1e6,
            "share": flops / ms * 1e3 / rate,
            "stage_ms": self._stages.summary(),
        }


def compare_speed(
    model: Sam2Model,
    images: Iterable[Picture],
    prompts: Sequence[Prompt],
    discovered: int,
    plan: Plan,
    untrained: bool = False,
    tested: Mapping[str, TrackingOptions] | None = None,
    upstream: bool = True,
) -> list[dict[str, Any]]:
    """Run upstream and the engines over `plan.frames` images, (H, W, 3) RGB.

    discovered: how many of the prompts, the first ones, are objects and not mere tiles. untrained:
    the network has no weights worth the name, so objects are held where their prompts are and
    masks are not compared. tested: the engines by name, exact among them; None: all of `engines`.
    upstream: whether it runs beside them. Beside an EdgeTAM, which it has not, it runs STAND_IN,
    whose masks are not compared either. Returns a row for each:

    fps, frame_ms: from the median of the beats' mean time per frame. ratio: fps to upstream's,
    None without upstream.
    mean_iou_to_exact: of masks with those of the exact engine in float32, over objects and frames
    on which that sees the object; mean_iou_discovered: the same without the tiles; both None for
    an untrained network. peak_mb: held_mb, what is kept
    from frame to frame (upstream's grows with each), and working_mb, the most that tensors take
    while a frame is worked on; weights and images are in neither. gflop: counted arithmetic of a
    frame; gflops: the same per second; share: of what one big matrix product reaches here.
    stage_ms: by stage, see `StageClock.summary`.
    """
    rows = _rows(model, len(prompts), untrained, tested or engines(), upstream)
    reference = next(r for r in rows if r.name in (EXACT, f"{EXACT} float32"))
    rates = {row.dtype: matrix_rate(model.device, row.dtype) for row in rows}
    # The outermost autocast keeps cast weights from frame to frame.
    with _outermost(model):
        for t, picture in enumerate(images):
            image = functional.image_tensor(picture, model.network.image_size, model.device)
            first = t % len(rows)
            for row in rows[first:] + rows[:first]:
                if t < plan.warm_up + plan.timed:
                    row.advance(image, () if t else prompts, picture, t >= plan.warm_up)
                else:
                    row.count(image, picture)
            for row in rows if t else ():
                row.compare(reference)
    found = [row.summary(plan.beat, rates[row.dtype]) for row in rows]
    for row, summary in zip(rows, found, strict=True):
        summary["ratio"] = summary["fps"] / found[0]["fps"] if upstream else None
        every, some = len(prompts), discovered
        noise = untrained or row.name.endswith(STAND_IN)
        summary["mean_iou_to_exact"] = None if noise else row.mean_iou(every)
        summary["mean_iou_discovered"] = None if noise or not some else row.mean_iou(some)
    return found


def _rows(
    model: Sam2Model,
    objects: int,
    untrained: bool,
    tested: Mapping[str, TrackingOptions],
    upstream: bool,
) -> list[_Row]:
    """Upstream first; exact in float32, with which masks are compared, comes before the others
    where they run in less."""
    rows = [_upstream_row(model)] if upstream else []
    ours = {name: (engine, model.dtype) for name, engine in tested.items()}
    if model.dtype != torch.float32 and not untrained:
        ours = {f"{EXACT} float32": (PRESETS[EXACT], torch.float32), **ours}
    for name, (engine, dtype) in ours.items():
        stream = EngineStream(model, objects, engine, hold=untrained)
        rows.append(_Row(name, stream, functional, model, dtype))
    return rows


def _upstream_row(model: Sam2Model) -> _Row:
    name, theirs = UPSTREAM, model
    if model.card.edgetam:
        name = f"{UPSTREAM} {STAND_IN}"
        theirs = untrained_model(STAND_IN, str(model.device), image_size=model.image_size)
    stream = UpstreamStream(theirs.network)
    return _Row(name, stream, stream.predictor, model, model.dtype)


def _outermost(model: Sam2Model) -> AbstractContextManager[None]:
    if model.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(model.device.type, model.dtype)
