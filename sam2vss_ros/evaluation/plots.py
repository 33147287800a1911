"""Figures over time, thinned to a fixed number of points and drawn as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

POINTS = 400
"""Most points of a series; beyond, neighbours are merged and a point stands for their mean."""

WIDTH, HEIGHT = 1000, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 24


@dataclass
class Series:
    """A figure of every frame of a stream; NaN where it is not defined."""

    step: int = 1
    """Frames that one point stands for."""
    _sums: list[float] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)
    _frames: int = 0

    def add(self, value: float) -> None:
        """Take the figure of the next frame."""
        if self._frames == POINTS * self.step:
            self._merge()
        if self._frames % self.step == 0:
            self._sums.append(0.0)
            self._counts.append(0)
        if not math.isnan(value):
            self._sums[-1] += value
            self._counts[-1] += 1
        self._frames += 1

    def points(self) -> list[float | None]:
        """The means; None where no frame had a figure."""
        return [s / n if n else None for s, n in zip(self._sums, self._counts, strict=True)]

    def _merge(self) -> None:
        self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
        self._counts = [a + b for a, b in zip(self._counts[::2], self._counts[1::2], strict=True)]
        self.step *= 2


@dataclass(frozen=True)
class Line:
    """A series as it is drawn; `color` is a CSS colour."""

    name: str
    color: str
    series: Series


def line_chart(lines: Sequence[Line], label: str, digits: int = 1) -> str:
    """Lines over the frames of a stream as SVG, in percent; hovering a column tells its figures.

    `label` is what a screen reader says of it. The lines have as many frames each.
    """
    columns = [line.series.points() for line in lines]
    shown = [100 * v for points in columns for v in points if v is not None]
    if not shown:
        return '<p class="note">No frame has this figure.</p>'
    ticks = _ticks(min(shown), max(shown))
    low, high = ticks[0], ticks[-1]
    count, step = len(columns[0]), lines[0].series.step
    slot = (WIDTH - LEFT - RIGHT) / count

    def x(i: float) -> float:
        return LEFT + (i + 0.5) * slot

    def y(percent: float) -> float:
        return TOP + (high - percent) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in ticks
    ]
    for frame in _ticks(0, count * step - 1, 10):
        if frame.is_integer() and frame < count * step:
            parts.append(
                f'<text x="{x(frame / step):.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
                f"{frame:g}</text>"
            )
    for line, points in zip(lines, columns, strict=True):
        path = _path([None if v is None else (x(i), y(100 * v)) for i, v in enumerate(points)])
        parts.append(f'<path class="line" stroke="{line.color}" d="{path}"/>')
    for i in range(count):
        told = [
            f"{line.name}: {100 * v:.{digits}f} %"
            for line, points in zip(lines, columns, strict=True)
            if (v := points[i]) is not None
        ]
        frames = f"frame {i}" if step == 1 else f"frames {i * step} to {(i + 1) * step - 1}"
        title = escape("\n".join([frames, *told]))
        parts.append(
            f'<rect class="hover" x="{LEFT + i * slot:.1f}" y="{TOP}" width="{slot:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
        )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path through the places, broken where there is none; a lone place is a dot."""
    commands, pen_down = [], False
    for place in places:
        if place is not None:
            command = "L" if pen_down else "M"
            commands.append(f"{command}{place[0]:.1f} {place[1]:.1f}")
            if not pen_down:
                commands.append("h0")
        pen_down = place is not None
    return "".join(commands)


def _ticks(low: float, high: float, parts: int = 4) -> list[float]:
    """Round numbers that enclose `low` to `high`, in about so many parts."""
    rough = max(high - low, 1e-3) / parts
    magnitude = 10.0 ** math.floor(math.log10(rough))
    size = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough)
    first, last = math.floor(low / size), max(math.ceil(high / size), math.floor(low / size) + 1)
    return [round(i * size, 10) for i in range(first, last + 1)]
