"""Quantiles of durations in constant memory, however many there are."""

from __future__ import annotations

import math

import numpy as np

LEAST, MOST, GROWTH = 1e-5, 1e4, 1.01
"""Seconds of the first and the last bin, and the width of a bin relative to the one before."""


class Latencies:
    """A histogram of durations whose bins grow by 1 %: quantiles are right to within 0.5 %.

    Durations below 10 microseconds and above 10000 seconds count as these.
    """

    def __init__(self) -> None:
        self._bins = np.zeros(math.ceil(math.log(MOST / LEAST) / math.log(GROWTH)) + 1, np.int64)
        self.count = 0
        self.seconds = 0.0
        """The sum of all durations."""

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = math.log(min(max(seconds, LEAST), MOST) / LEAST) / math.log(GROWTH)
        self._bins[int(index)] += 1
        self.count += 1
        self.seconds += seconds

    def merge(self, later: Latencies) -> None:
        """Count the durations of another histogram."""
        self._bins += later._bins
        self.count += later.count
        self.seconds += later.seconds

    def quantile(self, share: float) -> float:
        """The duration in seconds that `share` (0..1) of all do not exceed; NaN before any."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(share * self.count))
        index = int(np.searchsorted(np.cumsum(self._bins), rank))
        return float(LEAST * GROWTH ** (index + 0.5))
