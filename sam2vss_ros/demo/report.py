"""From what the demo's processes report to the figures that people want."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sam2vss_ros.demo.process import Event
from sam2vss_ros.semantics.catalog import ClassCatalog, parse_catalog


@dataclass
class Record:
    """Everything seen so far; one method takes the events of all processes."""

    played: set[int] = field(default_factory=set)
    labels: dict[int, int] = field(default_factory=dict)  # stamp -> time of receipt, ns
    objects: dict[int, int] = field(default_factory=dict)  # stamp -> objects in view
    track_ids: set[int] = field(default_factory=set)
    pixels: dict[int, int] = field(default_factory=dict)  # class id -> pixels
    catalog: ClassCatalog | None = None
    unlabelled_id: int = 255
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

    def counted(self, name: str) -> int:
        """A counter of the node's diagnostics."""
        return int(self.diagnostics.get(name, 0))

    def settled(self) -> bool:
        """Whether the node owes no answer: all it received is processed, dropped or failed, and
        the recorder has all it published."""
        done = sum(self.counted(f"frames {what}") for what in ("processed", "dropped", "failed"))
        answered = min(len(self.labels), len(self.objects))
        return self.counted("frames in") == done and self.counted("frames processed") == answered


def summarize(record: Record, resident_mb: float) -> dict[str, Any]:
    """The content of summary.json.

    frames_in: images that the camera published. frames_processed: label images received.
    frames_dropped: images that the node gave up for newer ones, and those that never reached it.
    frames_unmatched: answers to no image of the camera, and images with only one of the two
    answers (labels, objects). fps: answers per second. latency: from the image's stamp to the
    arrival of its labels. objects_max: most objects in view at once. class_share: name -> share
    of all labelled pixels.
    """
    both = record.labels.keys() & record.objects.keys()
    either = record.labels.keys() | record.objects.keys()
    received = np.array(sorted(record.labels.values()), np.int64)
    latency = [(arrival - stamp) / 1e6 for stamp, arrival in record.labels.items()] or [0.0]
    p50, p95 = np.percentile(latency, (50, 95))
    seconds = (received[-1] - received[0]) / 1e9 if len(received) > 1 else 0.0
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
        "fps": round((len(received) - 1) / seconds, 2) if seconds else 0.0,
        "latency_ms_p50": round(float(p50), 1),
        "latency_ms_p95": round(float(p95), 1),
        "objects_max": max(record.objects.values(), default=0),
        "track_ids_total": len(record.track_ids),
        "rss_mb": round(resident_mb, 1),
        "class_share": {
            names.get(i, str(i)): round(n / total, 4)
            for i, n in sorted(record.pixels.items(), key=lambda item: -item[1])
        },
    }


def table(summary: dict[str, Any]) -> str:
    """The same for people."""
    rows = [
        ("frames in", summary["frames_in"]),
        ("processed", summary["frames_processed"]),
        ("dropped for newer ones", summary["frames_dropped"]),
        ("failed", summary["frames_failed"]),
        ("unmatched", summary["frames_unmatched"]),
        ("frames per second", summary["fps"]),
        ("latency p50 (ms)", summary["latency_ms_p50"]),
        ("latency p95 (ms)", summary["latency_ms_p95"]),
        ("objects in view, most", summary["objects_max"]),
        ("track ids given", summary["track_ids_total"]),
        ("memory of the node (MB)", summary["rss_mb"]),
    ]
    rows += [(f"  {name}", f"{share:.1%}") for name, share in summary["class_share"].items()]
    at = len(rows) - len(summary["class_share"])
    rows.insert(at, ("share of pixels", ""))
    return "\n".join(f"{name:<26}{value!s:>10}" for name, value in rows)
