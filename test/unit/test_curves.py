"""The curves of a training log."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.training.curves import PANEL_HEIGHT, WIDTH, draw_curves


def test_curves_are_drawn_one_below_the_other(tmp_path: Path) -> None:
    """A falling loss and a rising score that only some steps have; what is never finite is left."""
    records: list[dict[str, float]] = [
        {"step": i, "loss": 1 - i / 300, "broken": float("nan")} for i in range(1, 201)
    ]
    for record in records[::20]:
        record["score"] = record["step"] / 300
    log, picture = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    draw_curves(log, picture)
    image = cv2.imread(str(picture)).astype(int)
    height = round(100 * PANEL_HEIGHT)
    assert image.shape == (2 * height, 100 * WIDTH, 3)
    blue = image[..., 0] - image[..., 2] > 100  # BGR

    def rises(panel: npt.NDArray[np.bool_]) -> bool:
        rows, columns = panel.nonzero()
        return bool(rows[columns.argmin()] > rows[columns.argmax()])

    assert [rises(blue[:height]), rises(blue[height:])] == [False, True]


def test_no_curves_of_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": NaN}\n')
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
