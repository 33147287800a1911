"""The folder that an evaluation leaves behind.

- `index.html`: everything for people, in one file that needs nothing else
- `report.json`: the figures, and what it takes to repeat them
- `frames.csv`: a row per frame and variant, written while the evaluation runs
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.evaluate import FrameResult
from sam2vss_ros.evaluation.figures import PLOTS
from sam2vss_ros.evaluation.gallery import WorstFrames
from sam2vss_ros.evaluation.metrics import FrameScore
from sam2vss_ros.evaluation.page import Visuals, page
from sam2vss_ros.evaluation.plots import Series
from sam2vss_ros.semantics.catalog import ClassCatalog

PAGE, FIGURES, FRAMES = "index.html", "report.json", "frames.csv"

SCORES = tuple(f.name for f in dataclasses.fields(FrameScore))
COLUMNS = (
    "variant", "stream", "index", "frame", "stamp_ns", "status", *SCORES, "latency_ms", "failure",
)  # fmt: skip


class Report:
    """Gathers what the report shows while frames are scored; memory does not grow with them.

    Files of an earlier report in `folder` are replaced, anything else there stays. Use it in a
    `with` block. Raises InputError where the folder cannot be made or written.
    """

    def __init__(self, folder: Path, truth: ClassCatalog, worst: int = 6) -> None:
        self._folder, self._truth, self._worst = folder, truth, worst
        self._visuals: dict[str, Visuals] = {}
        self._galleries: dict[str, WorstFrames] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / FRAMES).open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise InputError(f"report: {folder} cannot be written: {error.strerror}") from error
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def watch(self, name: str, predicted: ClassCatalog) -> Callable[[FrameResult], None]:
        """A watcher for `evaluate` of the variant `name`, whose ids mean what `predicted` says."""
        visuals = self._visuals[name] = Visuals()
        gallery = self._galleries[name] = WorstFrames(self._worst, self._truth, predicted)

        def take(result: FrameResult) -> None:
            self._write_row(name, result)
            series = visuals.series.setdefault(result.stream, {key: Series() for key in PLOTS})
            for key in PLOTS:
                series[key].add(getattr(result.score, key) if result.score else math.nan)
            prediction = result.output.label_image
            if result.score and result.labels is not None:
                assert result.frame is not None and prediction is not None
                place = result.stream, result.index, result.name
                gallery.offer(
                    place, result.score.miou, result.frame.image, result.labels, prediction
                )

        return take

    def write(
        self, document: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], baseline: str
    ) -> None:
        """Write the figures, and the page as `page` takes it, of the variants that were watched."""
        for name, gallery in self._galleries.items():
            self._visuals[name].worst = gallery.frames()
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        (self._folder / FIGURES).write_text(text, encoding="utf-8")
        html = page(document, variants, baseline, self._truth, self._visuals)
        (self._folder / PAGE).write_text(html, encoding="utf-8")

    def _write_row(self, variant: str, result: FrameResult) -> None:
        status = "failed" if result.failure else "unmatched" if result.labels is None else "scored"
        scores = [getattr(result.score, name) if result.score else math.nan for name in SCORES]
        self._rows.writerow(
            [
                variant,
                result.stream,
                result.index,
                result.name,
                "" if result.frame is None else result.frame.stamp_ns,
                status,
                *("" if math.isnan(v) else f"{v:.6f}" for v in scores),
                f"{1e3 * result.output.seconds:.3f}",
                result.failure,
            ]
        )
