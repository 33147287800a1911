"""The report of an evaluation as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

from sam2vss_ros.evaluation.gallery import BadFrame
from sam2vss_ros.evaluation.plots import Line, Series, line_chart
from sam2vss_ros.evaluation.template import PAGE
from sam2vss_ros.semantics.catalog import ClassCatalog

STREAMS_DRAWN = 24
"""Streams with a plot; where there are more, those with the lowest mIoU in the first variant."""

TEXT_CLASSES = 32
"""Classes beyond which the cells of the confusion matrix carry no text."""

COLORS = (
    "#2563eb", "#e0621a", "#0d9488", "#9333ea", "#db2777", "#65a30d", "#0891b2", "#a16207",
)  # fmt: skip


class Figure(NamedTuple):
    """How a figure of the JSON is shown; `percent` of 0..1, and which way is better."""

    key: str
    name: str
    meaning: str
    percent: bool = True
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.name} %" if self.percent else self.name

    def text(self, value: float | None) -> str:
        """The figure in its unit."""
        return "–" if value is None else f"{100 * value if self.percent else value:.1f}"

    def delta(self, value: float | None, base: float | None) -> str:
        """How much more than the baseline's, coloured by whether that is better."""
        if value is None or base is None:
            return ""
        shown = (100 if self.percent else 1) * (value - base)
        kind = "same"
        if abs(shown) >= 0.05:
            kind = "better" if (shown > 0) == self.higher_is_better else "worse"
        return f'<span class="delta {kind}">{_signed(shown)}</span>'


FIGURES = (
    Figure("miou", "mIoU", "mean over classes of intersection over union"),
    Figure("mbiou", "mBIoU", "the same, only near boundaries"),
    Figure("trimap_miou", "trimap mIoU", "mIoU within 5 px of the true boundaries"),
    Figure("strict_vc8", "strict VC8", "pixels right in all of 8 frames"),
    Figure("strict_vc16", "strict VC16", "pixels right in all of 16 frames"),
    Figure("mvc8", "mVC8", "pixels that keep one label, right or wrong, over 8 frames"),
    Figure("mvc16", "mVC16", "the same over 16 frames"),
    Figure("flicker", "flicker", "pixels that change without cause", higher_is_better=False),
    Figure("flow_consistency", "flow", "consistency along optical flow, mIoU"),
    Figure("fwiou", "fwIoU", "IoU weighted by the classes' pixels"),
    Figure("pixel_accuracy", "pixel acc.", "pixels with their true class"),
    Figure("mean_accuracy", "mean acc.", "mean over classes of pixels found"),
    Figure("fps", "frames/s", "of the labeller's own time", percent=False),
    Figure("latency_ms_p50", "p50 ms", "median time of a frame", False, False),
    Figure("latency_ms_p95", "p95 ms", "time that 95 % of the frames keep", False, False),
)
IOU = FIGURES[0]

COUNTS = {
    "streams": "streams",
    "frames": "frames in",
    "frames_scored": "scored",
    "frames_unmatched": "without labels",
    "frames_failed": "failed",
    "labels_unmatched": "labels without a frame",
}

PLOTS = {"miou": "mIoU of each frame, %", "flicker": "flicker, % of the pixels"}
"""What is drawn over time: a figure of `FrameScore`, and its title."""


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

    about: `source`, in words, and `provenance`. variants: the JSON of evaluations, each with its
    `name`, `config` and `weights`; the one called `baseline` is what the others are compared with.
    visuals: by the names of those variants that have any.
    """
    colors = {v["name"]: COLORS[i % len(COLORS)] for i, v in enumerate(variants)}
    base = next(v for v in variants if v["name"] == baseline)
    sections = {
        "Summary": _summary(variants, base, colors),
        "Classes": _classes(variants, base, truth, colors),
        "Over time": _over_time(visuals, colors),
        "Worst frames": _worst_frames(visuals, truth),
        "Confusion": _confusion(variants, truth),
        "Frames": _frames(variants),
        "Rules": _rules(base),
        "To repeat it": _repeat(about["provenance"], variants),
    }
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{name}</h2>{content}</section>'
        for name, content in sections.items()
    )
    told = about["provenance"]
    commit = told["git_commit"] or ""
    return PAGE.substitute(
        title=escape(" / ".join(v["name"] for v in variants)),
        source=escape(about["source"]),
        facts=escape(
            f"{told['date'].replace('T', ' ')} · {told['machine']['processor']} · "
            f"sam2vss_ros {told['sam2vss_ros']} {commit[:12]}{commit[40:]}"
        ),
        links=links,
        body=body,
    )


def _summary(
    variants: Sequence[Mapping[str, Any]], base: Mapping[str, Any], colors: Mapping[str, str]
) -> str:
    """Tiles for one variant, a table side by side for several."""
    shown = [f for f in FIGURES if any(v[f.key] is not None for v in variants)]
    if len(variants) == 1:
        tiles = "".join(
            f'<div class="tile" title="{escape(f.meaning)}"><b>{f.text(base[f.key])}'
            f"{'<i>%</i>' if f.percent else ''}</b><span>{escape(f.name)}</span></div>"
            for f in shown
        )
        return f'<div class="tiles">{tiles}</div>'
    header = ["<th></th>", *(_variant(v["name"], colors) for v in variants), "<th></th>"]
    rows = []
    for f in shown:
        best = _best(f, [v[f.key] for v in variants])
        cells = [f'<th scope="row">{escape(f.title)}</th>']
        for v in variants:
            value = v[f.key]
            text = f"<b>{f.text(value)}</b>" if value == best else f.text(value)
            delta = "" if v is base else f.delta(value, base[f.key])
            cells.append(f"<td>{text}{delta}</td>")
        cells.append(f'<td class="meaning">{escape(f.meaning)}</td>')
        rows.append(cells)
    note = f"Small figures: difference to {base['name']}, in the same unit. Bold: the best."
    return _table([header], rows, kind="wide") + f'<p class="note">{escape(note)}</p>'


def _classes(
    variants: Sequence[Mapping[str, Any]],
    base: Mapping[str, Any],
    truth: ClassCatalog,
    colors: Mapping[str, str],
) -> str:
    pixels = [sum(row) for row in base["confusion_matrix"]]
    total = sum(pixels) or 1
    header = ["<th>class</th>", "<th>% of pixels</th>"]
    header += ["<th>IoU %</th>", "<th>acc. %</th>"] * len(variants)
    above = ["<th></th>", "<th></th>", *(_variant(v["name"], colors, 2) for v in variants)]
    rows = []
    for c, count in zip(truth.classes, pixels, strict=True):
        cells = [
            f'<th scope="row">{_chip(_css(c.color))}{escape(c.name)}</th>',
            f"<td>{100 * count / total:.1f}</td>",
        ]
        for v in variants:
            iou, accuracy = v["per_class_iou"][c.name], v["per_class_accuracy"][c.name]
            delta = "" if v is base else IOU.delta(iou, base["per_class_iou"][c.name])
            bar = f"--share: {100 * (iou or 0):.1f}%"
            cells.append(f'<td class="bar" style="{bar}">{IOU.text(iou)}{delta}</td>')
            cells.append(f'<td class="soft">{IOU.text(accuracy)}</td>')
        rows.append(cells)
    mean = ['<th scope="row">mean</th>', "<td></td>"]
    for v in variants:
        delta = "" if v is base else IOU.delta(v["miou"], base["miou"])
        mean.append(f"<td><b>{IOU.text(v['miou'])}</b>{delta}</td>")
        mean.append(f'<td class="soft">{IOU.text(v["mean_accuracy"])}</td>')
    return _table([above, header] if len(variants) > 1 else [header], rows, mean, kind="wide")


def _over_time(visuals: Mapping[str, Visuals], colors: Mapping[str, str]) -> str:
    """Plots of every stream, the lines of all variants in one."""
    first = next(iter(visuals.values())).series
    drawn = sorted(first, key=lambda name: _mean(first[name]["miou"]))[:STREAMS_DRAWN]
    parts = [_legend(colors.items())] if len(visuals) > 1 else []
    if len(drawn) < len(first):
        parts.append(
            f'<p class="note">The {len(drawn)} of {len(first)} streams with the lowest mIoU; '
            "frames.csv has all.</p>"
        )
    for stream in (s for s in first if s in drawn):
        parts.append(f"<h3>{escape(stream)}</h3>")
        for key, title in PLOTS.items():
            lines = [
                Line(name, colors[name], seen.series[stream][key]) for name, seen in visuals.items()
            ]
            parts.append(f'<p class="axis">{title}</p>{line_chart(lines, f"{stream}: {title}")}')
    return "".join(parts)


def _worst_frames(visuals: Mapping[str, Visuals], truth: ClassCatalog) -> str:
    """The strips of every variant; those of the last one are open."""
    parts = [_legend((c.name, _css(c.color)) for c in truth.classes)]
    for name, seen in visuals.items():
        figures = "".join(map(_bad_frame, seen.worst))
        last = name == list(visuals)[-1]
        parts.append(_details(name, figures, last) if len(visuals) > 1 else figures)
    return "".join(parts)


def _bad_frame(bad: BadFrame) -> str:
    data = base64.b64encode(bad.strip).decode("ascii")
    place = f"{bad.stream} · frame {bad.index} · {bad.name}"
    return (
        f"<figure><figcaption><b>{escape(place)}</b><span>mIoU {100 * bad.miou:.1f} %</span>"
        f"<span>{escape(bad.mistake)}</span></figcaption>"
        '<div class="panels"><span>image</span><span>truth</span><span>prediction</span>'
        "<span>errors in red</span></div>"
        f'<img alt="{escape(f"{place}: image, truth, prediction, errors")}" '
        f'src="data:image/jpeg;base64,{data}"></figure>'
    )


def _confusion(variants: Sequence[Mapping[str, Any]], truth: ClassCatalog) -> str:
    names = [c.name for c in truth.classes]
    note = (
        '<p class="note">Row: the true class; column: what it is taken for, in % of the row. '
        "Pixels are told where the pointer rests.</p>"
    )
    if len(variants) == 1:
        return note + _heat_map(variants[0]["confusion_matrix"], names)
    return note + "".join(
        _details(v["name"], _heat_map(v["confusion_matrix"], names), v is variants[-1])
        for v in variants
    )


def _heat_map(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A (C, C + 1) confusion matrix whose cells are as dark as their share of the row."""
    columns = [*names, "no class"]
    header = ["<th></th>", *(f'<th><span class="tilt">{escape(n)}</span></th>' for n in columns)]
    rows = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = sum(row)
        cells = [f'<th scope="row">{escape(name)}</th>']
        for j, count in enumerate(row):
            if not count:
                cells.append("<td></td>")
                continue
            share = count / total
            color = "var(--right)" if i == j else "var(--wrong)"
            shown = f"{100 * share:.0f}" if share >= 0.005 and len(names) <= TEXT_CLASSES else ""
            dark = ' class="dark"' if share > 0.4 else ""
            title = f"{name} taken for {columns[j]}: {count} pixels, {100 * share:.2f} %"
            cells.append(
                f'<td title="{escape(title)}"{dark} style="background: color-mix(in srgb, '
                f'{color} {100 * math.sqrt(share):.0f}%, transparent)">{shown}</td>'
            )
        rows.append(cells)
    return _table([header], rows, kind="heat")


def _frames(variants: Sequence[Mapping[str, Any]]) -> str:
    header = ["<th></th>", *(f"<th>{name}</th>" for name in COUNTS.values())]
    rows = [
        [
            f'<th scope="row">{escape(v["name"])}</th>',
            *(f"<td>{v[k]}</td>" for k in COUNTS),
        ]
        for v in variants
    ]
    foreign = "".join(
        f'<p class="note">Not scored: {pixels} pixels with id {escape(str(id_))}, which is no '
        "class of the labels.</p>"
        for id_, pixels in variants[-1]["foreign_pixels"].items()
    )
    return _table([header], rows) + foreign


def _rules(result: Mapping[str, Any]) -> str:
    rules = {**result["rules"], **TIMING_RULES}
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rules.items())
    return f"<dl>{terms}</dl>"


def _repeat(provenance: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> str:
    told = {key: value for key, value in provenance.items() if value is not None}
    parts = [f"<pre>{escape(told.pop('command'))}</pre>", _listing(told)]
    for v in variants:
        config = {"config": v["config"], "weights": v["weights"]}
        parts.append(_details(v["name"], _listing(config), False))
    return "".join(parts)


def _listing(data: Mapping[str, Any]) -> str:
    """Nested plain data as a definition list."""
    terms = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            shown = _listing(value)
        elif isinstance(value, list):
            shown = "".join(
                _listing(v) if isinstance(v, Mapping) else escape(str(v)) for v in value
            )
        else:
            shown = f"<code>{escape(str(value))}</code>"
        terms.append(f"<dt>{escape(str(key))}</dt><dd>{shown}</dd>")
    return f"<dl>{''.join(terms)}</dl>"


def _variant(name: str, colors: Mapping[str, str], columns: int = 1) -> str:
    """A heading over the columns of a variant."""
    return f'<th colspan="{columns}">{_chip(colors[name])}{escape(name)}</th>'


def _table(
    header: Sequence[Sequence[str]],
    rows: Iterable[Sequence[str]],
    footer: Sequence[str] = (),
    kind: str = "",
) -> str:
    """A table of cells that are HTML already."""
    head, body, foot = (
        "".join(f"<tr>{''.join(row)}</tr>" for row in part) for part in (header, rows, [footer])
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead>{head}</thead><tbody>{body}</tbody>'
        f"<tfoot>{foot}</tfoot></table></div>"
    )


def _details(name: str, content: str, opened: bool) -> str:
    return (
        f"<details{' open' if opened else ''}><summary>{escape(name)}</summary>{content}</details>"
    )


def _legend(entries: Iterable[tuple[str, str]]) -> str:
    """Names and their CSS colours."""
    items = "".join(f"<span>{_chip(color)}{escape(name)}</span>" for name, color in entries)
    return f'<p class="legend">{items}</p>'


def _chip(color: str) -> str:
    return f'<i class="chip" style="background: {color}"></i>'


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _best(figure: Figure, values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    choose = max if figure.higher_is_better else min
    return choose(known, default=None)


def _mean(series: Series) -> float:
    known = [p for p in series.points() if p is not None]
    return sum(known) / len(known) if known else math.inf


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


TIMING_RULES = {
    "fps": "frames per second of the labeller's own time: reading files and scoring do not count",
    "latency_ms": "time of the labeller for one frame; quantiles from a histogram whose bins grow "
    "by 1 %, right to within 0.5 %; waiting for later frames, as paper-refine does for up to 31, "
    "does not count",
    "frames": "every frame in order; a frame without a label image of its own name or stamp is "
    "seen, not scored; one that cannot be read or processed is counted and skipped, and what "
    "compares successive frames begins anew",
}
