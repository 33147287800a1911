"""Stopwatch and scales: time by stage, arithmetic, memory, and what the machine can do at best."""

from __future__ import annotations

import functools
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sam2vss_ros.bench.streams import replaced
from sam2vss_ros.stream.stopwatch import Clock, Instant


class StageClock:
    """How long the stages of a frame take, whatever code they are in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: list[tuple[str, Instant, Instant]] = []
        self._frames: list[dict[str, float]] = []

    def watching(self, owner: object, stages: Mapping[str, str]) -> AbstractContextManager[None]:
        """Time the functions of `owner`, a module or an object, by their stages' names."""
        watched = {name: self._timed(getattr(owner, name), stages[name]) for name in stages}
        return replaced(owner, **watched)

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._clock.now()
            result = function(*args, **kwargs)
            self._open.append((stage, start, self._clock.now()))
            return result

        return timed

    def lap(self, keep: bool, total_ms: float) -> None:
        """End a frame that took `total_ms` in all, the device included; forget it unless `keep`."""
        frame: dict[str, float] = defaultdict(float)
        for stage, start, end in self._open:
            frame[stage] += self._clock.milliseconds(start, end)
        self._open.clear()
        if keep:
            self._frames.append({**frame, "other": max(0.0, total_ms - sum(frame.values()))})

    def summary(self) -> dict[str, dict[str, float]]:
        """Milliseconds by stage: p50 and p95 of the frames it ran on, and the mean of all."""
        by_stage: dict[str, list[float]] = defaultdict(list)
        for frame in self._frames:
            for stage, ms in frame.items():
                by_stage[stage].append(ms)
        return {stage: summarise(ms, len(self._frames)) for stage, ms in by_stage.items()}


def summarise(ms: list[float], frames: int) -> dict[str, float]:
    """p50 and p95 of some measurements, and their sum per frame."""
    p50, p95 = np.percentile(ms, [50, 95])
    mean = sum(ms) / frames
    return {"p50": round(p50, 3), "p95": round(p95, 3), "mean": round(mean, 3)}


@dataclass(frozen=True)
class Cost:
    """flops: multiplications and additions. working_bytes: the most that was allocated at a time
    on top of what there was before."""

    flops: int
    working_bytes: int


def cost_of(work: Callable[[], object], device: torch.device) -> Cost:
    """Do some work slowly, counting its arithmetic and its memory.

    Memory is what the allocator of a GPU reports, and on a CPU the sum of all tensors.
    """
    live = _LiveTensors()
    with live, FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        if device.type != "cuda":
            work()
            return Cost(counter.get_total_flops(), live.peak)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        peak = torch.cuda.max_memory_allocated(device) - before
        return Cost(counter.get_total_flops(), peak)


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is active; `peak` is the most at a time.

    Memory that several tensors share counts once, and what existed before does not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: dict[int, int] = {}  # address -> bytes that count

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._note((args, kwargs), new=False)
        result = func(*args, **(kwargs or {}))
        self._note(result, new=True)
        self.peak = max(self.peak, self._now)
        return result

    def _note(self, values: Any, new: bool) -> None:
        for value in tree_leaves(values):
            storage = value.untyped_storage() if torch.is_tensor(value) else None
            if storage is None or storage.data_ptr() in self._known or not storage.nbytes():
                continue
            self._known[storage.data_ptr()] = storage.nbytes() if new else 0
            self._now += self._known[storage.data_ptr()]
            weakref.finalize(storage, self._forget, storage.data_ptr())

    def _forget(self, address: int) -> None:
        self._now -= self._known.pop(address)


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    """Of scaled dot-product attention, from shapes (B, heads, tokens, channels)."""
    batch, heads, queries, channels = q
    return int(2 * batch * heads * queries * k[2] * (channels + v[3]))


_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Floating point operations per second of one big matrix product, the best of several; found
    once."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock = Clock(device)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b)
        clock.synchronise()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)
