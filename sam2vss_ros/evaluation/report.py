"""The folder that an evaluation leaves behind.

- `index.html`: everything for people, in one file that needs nothing else
- `report.json`: the figures, and what it takes to repeat them
- `frames.csv`: a row per frame and variant

They are written in a folder beside, and take the place of an earlier report together.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from sam2vss_ros.evaluation.evaluate import FrameResult
from sam2vss_ros.evaluation.figures import PLOTS
from sam2vss_ros.evaluation.frame_log import COLUMNS, WORST, FrameLog, FrameRow, offer
from sam2vss_ros.evaluation.gallery import WorstFrames
from sam2vss_ros.evaluation.page import Visuals, page
from sam2vss_ros.evaluation.plots import Series
from sam2vss_ros.io.outputs import LineFile, check_folder, refuse_foreign, staged, write_text
from sam2vss_ros.semantics.catalog import ClassCatalog

PAGE, FIGURES, FRAMES = "index.html", "report.json", "frames.csv"


def check_report(folder: Path, overwrite: bool) -> None:
    """Raise InputError where a report cannot be written into `folder`, or would take the place of
    something that is none: an earlier one is known by the columns of its frames.csv."""
    check_folder("report", folder)
    if any((folder / name).exists() for name in (PAGE, FIGURES, FRAMES)):
        refuse_foreign("report", folder, _is_report(folder), overwrite)


def _is_report(folder: Path) -> bool:
    try:
        with (folder / FRAMES).open(encoding="utf-8") as file:
            return file.readline(1000).startswith(",".join(COLUMNS[:6]))
    except (OSError, ValueError):
        return False


class Report:
    """Gathers what the report shows while frames are scored; memory does not grow with them.

    Files of an earlier report in `folder` are replaced at the end, anything else there stays. Use
    it in a `with` block. Raises InputError where the folder cannot be made or written; where a row
    of frames.csv cannot be written the evaluation goes on, and `write` raises.
    """

    def __init__(self, folder: Path, truth: ClassCatalog) -> None:
        self._folder, self._truth = folder, truth
        self._visuals: dict[str, Visuals] = {}
        self._galleries: dict[str, WorstFrames] = {}
        self._failure: OSError | None = None
        check_folder("report", folder)

    def __enter__(self) -> Report:
        with ExitStack() as opened:
            self._stage = opened.enter_context(staged(self._folder, (PAGE, FIGURES, FRAMES)))
            self._frames = opened.enter_context(LineFile(self._stage.folder / FRAMES))
            self._write_row(COLUMNS)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def watch(self, name: str, predicted: ClassCatalog) -> Callable[[FrameResult], None]:
        """A watcher for `evaluate` of the variant `name`, whose ids mean what `predicted` says."""
        self._visuals[name] = Visuals()
        gallery = self._galleries[name] = WorstFrames(WORST, self._truth, predicted)

        def take(result: FrameResult) -> None:
            self._add_row(name, FrameRow.of(result))
            offer(gallery, result)

        return take

    def merger(self, name: str) -> Callable[[FrameLog], None]:
        """What takes the frames of the variant `name` that were watched elsewhere, in order."""
        self._visuals[name] = Visuals()
        gallery = self._galleries[name] = WorstFrames(WORST, self._truth, self._truth)

        def take(log: FrameLog) -> None:
            for row in log.rows:
                self._add_row(name, row)
            for frame in log.worst:
                gallery.take(frame)

        return take

    def _add_row(self, name: str, row: FrameRow) -> None:
        self._write_row([name, *row.cells])
        self._stage.keep |= self._failure is None
        all_series = self._visuals[name].series
        series = all_series.setdefault(row.stream, {key: Series() for key in PLOTS})
        for key in PLOTS:
            series[key].add(getattr(row.score, key) if row.score else math.nan)

    def write(
        self, document: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], baseline: str
    ) -> None:
        """Write the figures, and the page as `page` takes it, of the variants that were watched.

        Raises OSError, also for rows that could not be written.
        """
        for name, gallery in self._galleries.items():
            self._visuals[name].worst = gallery.frames()
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_text(self._stage.folder / FIGURES, text)
        html = page(document, variants, baseline, self._truth, self._visuals)
        write_text(self._stage.folder / PAGE, html)
        if self._failure:
            raise self._failure

    def _write_row(self, cells: Sequence[object]) -> None:
        line = io.StringIO(newline="")
        csv.writer(line).writerow(cells)
        try:
            if self._failure is None:
                self._frames.write(line.getvalue())
        except OSError as error:
            self._failure = error
