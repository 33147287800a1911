"""Figures over time, thinned to a fixed number of points and drawn as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sam2vss_ros.errors import needs_extra

with needs_extra("report"):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

POINTS = 400
"""Most points of a series; beyond, neighbours are merged and a point stands for their mean."""

SIZE = (4.4, 1.7)
"""Width and height in inches; the page scales it, and so its text of 8 pt."""

INK = "#76829a"
"""Read on a light page as well as on a dark one."""


@dataclass
class Series:
    """A figure of every frame of a stream; NaN where it is not defined."""

    step: int = 1
    """Frames that one point stands for."""
    frames: int = 0
    """All that were added."""
    _sums: list[float] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Take the figure of the next frame."""
        if self.frames == POINTS * self.step:
            self._merge()
        if self.frames % self.step == 0:
            self._sums.append(0.0)
            self._counts.append(0)
        if not math.isnan(value):
            self._sums[-1] += value
            self._counts[-1] += 1
        self.frames += 1

    def points(self) -> list[float]:
        """The means; NaN where no frame had a figure."""
        return [s / n if n else math.nan for s, n in zip(self._sums, self._counts, strict=True)]

    def mean(self) -> float:
        """The mean over all frames that have a figure; NaN where none has."""
        return sum(self._sums) / count if (count := sum(self._counts)) else math.nan

    def _merge(self) -> None:
        self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
        self._counts = [a + b for a, b in zip(self._counts[::2], self._counts[1::2], strict=True)]
        self.step *= 2


def line_chart(lines: Sequence[tuple[str, Series]]) -> Figure:
    """Series over the frames of a stream, in percent, each with its colour; gaps stay gaps."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for color, series in lines:
        percent = 100 * np.array(series.points())
        middles = np.arange(len(percent)) * series.step + (series.step - 1) / 2
        # A point between gaps is no line: it gets a dot.
        gap = np.isnan(np.pad(percent, 1, constant_values=math.nan))
        alone = np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:]).tolist()
        axes.plot(middles, percent, ".-", color=color, linewidth=1, markevery=alone)
    axes.set_xlim(-0.5, max(series.frames for _, series in lines) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=8, labelcolor=INK, length=0)
    axes.grid(axis="y", color=INK, alpha=0.25)
    axes.spines[:].set_visible(False)
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file without a background."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    return file.getvalue()
