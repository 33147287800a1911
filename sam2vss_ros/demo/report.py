"""From what the demo's processes report to the figures that people want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sam2vss_ros.demo.process import Event
from sam2vss_ros.semantics.catalog import ClassCatalog, parse_catalog


@dataclass
class Record:
    """Everything seen so far of a camera; one method takes the events of all its processes."""

    played: set[int] = field(default_factory=set)
    labels: dict[int, int] = field(default_factory=dict)  # stamp -> time of receipt, ns
    objects: dict[int, int] = field(default_factory=dict)  # stamp -> objects in view
    track_ids: set[int] = field(default_factory=set)
    pixels: dict[int, int] = field(default_factory=dict)  # class id -> pixels
    catalog: ClassCatalog | None = None
    unlabelled_id: int = 255
    overlay_begins: int = 0  # stamp of the video's first picture, ns
    diagnostics: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Note an event of the player or the recorder."""
        match event["event"]:
            case "played":
                self.played.add(event["stamp"])
            case "label":
                self.labels[event["stamp"]] = event["received"]
            case "objects":
                self.objects[event["stamp"]] = event["seen"]
                self.track_ids.update(event["track_ids"])
            case "catalog":
                self.catalog = parse_catalog(event, "the catalog of the node")
                self.unlabelled_id = event["unlabelled_id"]
            case "diagnostics":
                self.diagnostics = event["values"]
            case "labelled":
                self.pixels = {int(i): n for i, n in event["pixels"].items()}
            case "recorded":
                self.overlay_begins = event["begins"]

    def counted(self, name: str) -> int:
        """A counter of the node's diagnostics."""
        return int(self.diagnostics.get(name, 0))

    def answered(self) -> bool:
        """Whether the node owes no answer: all it received is processed, dropped or failed."""
        done = sum(self.counted(f"frames {what}") for what in ("processed", "dropped", "failed"))
        return self.counted("frames in") == done

    def settled(self) -> bool:
        """Whether it owes none, and the recorder has all it published."""
        recorded = min(len(self.labels), len(self.objects))
        return self.answered() and self.counted("frames processed") == recorded


COUNTS = ("frames_in", "frames_processed", "frames_dropped", "frames_failed", "frames_unmatched")
"""What is added up over cameras."""


def summarize(record: Record, resident_mb: float) -> dict[str, Any]:
    """The content of summary.json for one camera.

    frames_in: images that the camera published. frames_processed: label images received.
    frames_dropped: images that the node gave up for newer ones, and those that never reached it.
    frames_unmatched: answers to no image of the camera, and images with only one of the two
    answers (labels, objects). fps: answers per second. latency: from the image's stamp to the
    arrival of its labels. objects_max: most objects in view at once. rss_mb: memory of the node,
    with all that it holds for other cameras. class_share: name -> share of all labelled pixels.
    """
    both = record.labels.keys() & record.objects.keys()
    either = record.labels.keys() | record.objects.keys()
    total = sum(record.pixels.values())
    names = {c.id: c.name for c in record.catalog.classes} if record.catalog else {}
    names[record.unlabelled_id] = "unlabelled"
    processed = len(record.labels)
    return {
        "frames_in": len(record.played),
        "frames_processed": processed,
        "frames_dropped": max(0, len(record.played) - processed - record.counted("frames failed")),
        "frames_failed": record.counted("frames failed"),
        "frames_unmatched": len((either - both) | (both - record.played)),
        **pace(list(record.labels.items())),
        "objects_max": max(record.objects.values(), default=0),
        "track_ids_total": len(record.track_ids),
        "rss_mb": round(resident_mb, 1),
        "class_share": {
            names.get(i, str(i)): round(n / total, 4)
            for i, n in sorted(record.pixels.items(), key=lambda item: -item[1])
        },
    }


def summarize_all(
    summaries: Mapping[str, dict[str, Any]], records: Sequence[Record], resident_mb: Sequence[float]
) -> dict[str, Any]:
    """The content of summary.json for several cameras, whose summaries are given by name.

    The same keys, as far as they mean something for all cameras together: sums, the answers per
    second and the latency of all answers. resident_mb: memory of each node.
    """
    answers = [answer for record in records for answer in record.labels.items()]
    return {
        "cameras": dict(summaries),
        "nodes": len(resident_mb),
        **{key: sum(summary[key] for summary in summaries.values()) for key in COUNTS},
        **pace(answers),
        "rss_mb": round(sum(resident_mb), 1),
    }


def pace(answers: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Answers per second and latency; an answer is its image's stamp and its arrival, in ns."""
    arrivals = [arrival for _, arrival in answers]
    latency = [(arrival - stamp) / 1e6 for stamp, arrival in answers] or [0.0]
    p50, p95 = np.percentile(latency, (50, 95))
    seconds = (max(arrivals) - min(arrivals)) / 1e9 if arrivals else 0.0
    return {
        "fps": round((len(arrivals) - 1) / seconds, 2) if seconds else 0.0,
        "latency_ms_p50": round(float(p50), 1),
        "latency_ms_p95": round(float(p95), 1),
    }


ROWS = {
    "frames in": "frames_in",
    "processed": "frames_processed",
    "dropped for newer ones": "frames_dropped",
    "failed": "frames_failed",
    "unmatched": "frames_unmatched",
    "frames per second": "fps",
    "latency p50 (ms)": "latency_ms_p50",
    "latency p95 (ms)": "latency_ms_p95",
    "objects in view, most": "objects_max",
    "track ids given": "track_ids_total",
    "memory of the node (MB)": "rss_mb",
}
"""The table's rows and the keys of the summary that they show."""


def table(summary: dict[str, Any]) -> str:
    """The same for people; of several cameras, each has a column, and all together the last."""
    cameras: dict[str, dict[str, Any]] = summary.get("cameras", {})
    columns = [*cameras.values(), summary] if cameras else [summary]
    rows = [(row, [column.get(key, "") for column in columns]) for row, key in ROWS.items()]
    if summary.get("nodes") == 1:  # its memory is that of all cameras together
        rows[-1] = (rows[-1][0], [""] * len(cameras) + [summary["rss_mb"]])
    rows.append(("share of pixels", [""] * len(columns)))
    shares = [column.get("class_share", {}) for column in columns]
    for name in dict.fromkeys(name for share in shares for name in share):
        cells = [f"{share[name]:.1%}" if name in share else "" for share in shares]
        rows.append((f"  {name}", cells))
    if cameras:
        rows.insert(0, ("", [*cameras, "all"]))
    widths = [max(10, len(name) + 2) for name in (*cameras, "all")]
    return "\n".join(
        f"{row:<26}" + "".join(f"{cell!s:>{w}}" for cell, w in zip(cells, widths, strict=True))
        for row, cells in rows
    )
