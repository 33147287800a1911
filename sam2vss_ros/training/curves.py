"""The curves of a training run as a picture."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import needs_extra
from sam2vss_ros.io.outputs import write_bytes

with needs_extra("report"):
    from matplotlib.figure import Figure

WIDTH, PANEL_HEIGHT = 9, 2.2
"""In inches, of 100 pixels."""

FEW = 50
"""Up to so many points are also drawn as dots: one alone is no line."""


def draw_curves(log: Path, picture: Path) -> None:
    """Draw every figure of a log.jsonl against its step, one panel below the other, as a PNG."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        for name, value in record.items():
            if name != "step" and math.isfinite(value):
                curves.setdefault(name, []).append((record["step"], value))
    if not curves:
        return
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(panels, curves.items(), strict=True):
        steps, values = np.array(points, float).T
        smooth = _smooth(values)
        axes.plot(steps, smooth, ".-" if len(points) <= FEW else "-")
        axes.set_title(f"{name}: last {smooth[-1]:.3f}", loc="left", size="medium")
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    write_bytes(picture, png.getvalue())


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A running mean over a fiftieth of the run, which leaves a few points as they are."""
    width = max(1, len(values) // 50)
    edged = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(edged, np.full(width, 1 / width), mode="valid")
