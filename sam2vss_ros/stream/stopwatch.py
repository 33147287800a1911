"""Time by stage, measured alike on a CPU and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

Instant = Any  # a number of seconds, or an event in the queue of a GPU


class Clock:
    """Instants on a device.

    On a GPU they are events in its queue: work that has only been launched is not taken for done,
    and timing does not slow it down. seconds: what a CPU's instants are read from.
    """

    def __init__(
        self, device: torch.device, seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._device = device
        self._seconds = seconds
        self.on_gpu = device.type == "cuda"

    def now(self) -> Instant:
        """This instant."""
        if not self.on_gpu:
            return self._seconds()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def synchronise(self) -> None:
        """Wait until a GPU has done what it was asked to."""
        if self.on_gpu:
            torch.cuda.synchronize(self._device)

    def milliseconds(self, start: Instant, end: Instant) -> float:
        """From one instant to another; both have passed (`synchronise`)."""
        if self.on_gpu:
            return float(start.elapsed_time(end))
        return float(end - start) * 1e3


class Stopwatch:
    """Laps by name, from its making on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._laps: list[tuple[str, Instant, Instant]] = []
        self._last = clock.now()

    def lap(self, name: str) -> None:
        """End a lap, and begin the next."""
        now = self._clock.now()
        self._laps.append((name, self._last, now))
        self._last = now

    def milliseconds(self) -> dict[str, float]:
        """What each lap took; waits for the device."""
        self._clock.synchronise()
        return {name: self._clock.milliseconds(start, end) for name, start, end in self._laps}
