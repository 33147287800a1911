"""The report of an evaluation as one HTML file that needs nothing else; its template is beside."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2vss_ros.errors import needs_extra
from sam2vss_ros.evaluation.figures import COUNTS, FIGURES, IOU, PLOTS
from sam2vss_ros.evaluation.gallery import BadFrame
from sam2vss_ros.evaluation.plots import Series, line_chart, svg
from sam2vss_ros.semantics.catalog import ClassCatalog

with needs_extra("report"):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

STREAMS_DRAWN = 24
"""Streams with a plot; where there are more, those with the lowest mIoU in the first variant."""

TEXT_CLASSES = 32
"""Classes beyond which the cells of the confusion matrix carry no text."""

COLORS = (
    "#2563eb", "#e0621a", "#0d9488", "#9333ea", "#db2777", "#65a30d", "#0891b2", "#a16207",
)  # fmt: skip


@dataclass
class Visuals:
    """What the page shows of a variant that is not in its JSON: series by stream and figure, and
    the worst frames."""

    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    worst: list[BadFrame] = field(default_factory=list)


def page(
    about: Mapping[str, Any],
    variants: Sequence[Mapping[str, Any]],
    baseline: str,
    truth: ClassCatalog,
    visuals: Mapping[str, Visuals],
) -> str:
    """The whole page.

    about: `source`, in words, `provenance` and perhaps `label_notes`. variants: the JSON of
    evaluations, each with its `name`, `config` and `weights`; the one called `baseline` is what the
    others are compared with. visuals: by the names of those variants that have any.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    colors = {v["name"]: COLORS[i % len(COLORS)] for i, v in enumerate(variants)}
    provenance = about["provenance"]
    known = {k: v for k, v in provenance.items() if k != "command" and v is not None}
    return environment.get_template("page.html").render(
        about=about,
        provenance=known,
        variants=variants,
        base=next(v for v in variants if v["name"] == baseline),
        truth=truth,
        visuals=visuals,
        colors=colors,
        charts=_charts(visuals, colors),
        streams=len(next(iter(visuals.values())).series),
        figures=[f for f in FIGURES if any(v[f.key] is not None for v in variants)],
        iou=IOU,
        counts=COUNTS,
        cell_texts=len(truth.classes) <= TEXT_CLASSES,
    )


def _charts(
    visuals: Mapping[str, Visuals], colors: Mapping[str, str]
) -> dict[str, dict[str, bytes | None]]:
    """By stream and title: an SVG with the lines of all variants, None where no frame has the
    figure."""
    first = next(iter(visuals.values())).series
    miou = {stream: series["miou"].mean() for stream, series in first.items()}
    # NaN, the mean of no frame, comes last.
    drawn = sorted(miou, key=lambda s: (math.isnan(miou[s]), miou[s]))[:STREAMS_DRAWN]
    charts: dict[str, dict[str, bytes | None]] = {}
    for stream in (s for s in first if s in drawn):
        charts[stream] = {}
        for key, title in PLOTS.items():
            lines = [(colors[name], seen.series[stream][key]) for name, seen in visuals.items()]
            known = any(not math.isnan(series.mean()) for _, series in lines)
            charts[stream][title] = svg(line_chart(lines)) if known else None
    return charts


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
