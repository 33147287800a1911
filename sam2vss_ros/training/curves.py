"""The curves of a training run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

WIDTH, PANEL_HEIGHT, MARGIN = 900, 220, 56
FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOUR = (160, 80, 20)  # BGR, as OpenCV writes


def draw_curves(log: Path, picture: Path) -> None:
    """Draw every figure of a log.jsonl against its step, one panel below the other, as a PNG."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(name for record in records for name in record if name != "step"))
    panels = []
    for name in names:
        points = [(r["step"], r[name]) for r in records if name in r and np.isfinite(r[name])]
        if points:
            panels.append(_panel(name, np.array(points, float)))
    if panels:
        cv2.imwrite(str(picture), np.vstack(panels))


def _panel(name: str, points: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    panel = np.full((PANEL_HEIGHT, WIDTH, 3), 255, np.uint8)
    left, right, top, bottom = MARGIN, WIDTH - 12, 28, PANEL_HEIGHT - 24
    steps, values = points[:, 0], _smooth(points[:, 1])
    low, high = float(values.min()), float(values.max())
    x = left + (right - left) * (steps - steps[0]) / max(1.0, steps[-1] - steps[0])
    y = bottom - (bottom - top) * (values - low) / ((high - low) or 1.0)
    cv2.rectangle(panel, (left, top), (right, bottom), (200, 200, 200))
    line = np.stack([x, y], 1).round().astype(np.int32)
    cv2.polylines(panel, [line], False, COLOUR, 2, cv2.LINE_AA)
    for text, place in (
        (f"{name}: last {values[-1]:.3f}", (left, 18)),
        (f"{high:.2f}", (6, top + 8)),
        (f"{low:.2f}", (6, bottom)),
        (f"{steps[0]:.0f}", (left, PANEL_HEIGHT - 6)),
        (f"step {steps[-1]:.0f}", (right - 90, PANEL_HEIGHT - 6)),
    ):
        cv2.putText(
            panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA
        )
    return panel


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A running mean over a fiftieth of the run, which leaves a few points as they are."""
    width = max(1, len(values) // 50)
    edged = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(edged, np.full(width, 1 / width), mode="valid")
