"""The results of a run as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sam2vss_ros.bench.report import markdown

GOAL_SIZE, GOAL_OBJECTS = 1024, 32
GOAL_FPS, GOAL_RATIO = 30.0, 5.0
"""What is to be reached at that size with so many objects, on a card like an H100: frames a second,
and times upstream's."""

STAGES = ("encode", "attention", "decode", "memory write", "other")
LAPS = ("encode", "track", "discover", "classify", "fuse")
NAMED = 3
"""Kernels that the page names."""

Found = Mapping[str, Any]


def page(machine: Found, settings: Found, found: Sequence[Found], to_come: int) -> str:
    """All tables; to_come: how many configurations are still to be measured."""
    done = sum(not one["failures"] for one in found)
    parts = [
        "# A GPU, measured",
        _about(machine, settings),
        f"{done} configurations are measured, {len(found) - done} failed, {to_come} are to come.",
        "## Goals",
        f"At {GOAL_SIZE} pixels with {GOAL_OBJECTS} objects: {GOAL_FPS:.0f} frames a second, and "
        f"{GOAL_RATIO:.0f} times upstream.",
        _goals(found, bool(settings["dry_run"])),
        "## Engines",
        "Image encoder, attention, decoder and memory write for all objects. `launch-bound` is the "
        "share of a frame in which no kernel runs; stages are p50.",
        _engines(found),
        "## The whole pipeline",
        "Frame and stages are p50; `in sight` are the objects that are seen, of those asked for. "
        "Copies and waits are those of a frame.",
        _pipelines(found),
        "## Kernels",
        _kernels(found),
    ]
    failures = _failures(found)
    if failures:
        parts += ["## Not measured", failures]
    return "\n\n".join(parts) + "\n"


def _about(machine: Found, settings: Found) -> str:
    """What was measured on, and with what."""
    lines = [f"{name}: {value}" for name, value in {**machine, **settings}.items()]
    if settings["dry_run"]:
        lines.insert(0, "**dry run: tiny shapes on the CPU, the figures mean nothing**")
    return "\n".join(f"- {line}" for line in lines)


def _goals(found: Sequence[Found], dry: bool) -> str:
    """A row for each way that was measured at the goals' size and number of objects."""

    def judged(value: float | None, goal: float) -> list[str]:
        if value is None:
            return ["-", "-"]
        return [f"{value:.2f}", "dry run" if dry else "met" if value >= goal else "missed"]

    rows = []
    for one in found:
        asked = one["configuration"]
        if (asked["image_size"], asked["objects"]) != (GOAL_SIZE, GOAL_OBJECTS):
            continue
        ways = [
            (f"engine {row['engine']}", row["fps"], row["ratio"])
            for row in one["engines"]
            if not row["engine"].startswith("upstream")
        ]
        ways += [(f"pipeline {n}", p["median_fps"], None) for n, p in one["pipelines"].items()]
        rows += [
            [asked["model"], way, *judged(fps, GOAL_FPS), *judged(ratio, GOAL_RATIO)]
            for way, fps, ratio in ways
        ]
    if not rows:
        return "Not measured."
    header = ["model", "way", "frames/s", f"goal {GOAL_FPS:.0f}", "to upstream"]
    return markdown([*header, f"goal {GOAL_RATIO:.0f}"], rows)


def _engines(found: Sequence[Found]) -> str:
    header = ["model", "px", "objects", "engine", "frames/s", "to upstream", "frame ms"]
    header += ["kernel ms", "launches", "launch-bound", *(f"{s} ms" for s in STAGES)]
    header += ["held and working MB", "GFLOP", "TFLOP/s"]
    rows = [
        [
            *_names(one),
            row["engine"],
            f"{row['fps']:.2f}",
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            f"{row['frame_ms']:.1f}",
            *_traced(row),
            *(_p50(row["stage_ms"], stage) for stage in STAGES),
            f"{row['peak_mb']:.0f}",
            f"{row['gflop']:.0f}",
            f"{row['gflops'] / 1e3:.1f}",
        ]
        for one in found
        for row in one["engines"]
    ]
    return markdown(header, rows)


def _pipelines(found: Sequence[Found]) -> str:
    header = ["model", "px", "objects", "engine", "in sight", "frames/s", "frame ms", "kernel ms"]
    header += ["launches", "launch-bound", *(f"{lap} ms" for lap in LAPS)]
    header += ["copies up", "kB", "copies down", "kB", "waits", "peak MB"]
    rows = [
        [
            *_names(one),
            engine,
            f"{row['in_sight']:.1f}",
            f"{row['median_fps']:.2f}",
            _p50(row["stage_ms"], "frame"),
            *_traced(row),
            *(_p50(row["stage_ms"], lap) for lap in LAPS),
            *_moved(row),
            f"{row['peak_mb']:.0f}" if "peak_mb" in row else "-",
        ]
        for one in found
        for engine, row in one["pipelines"].items()
    ]
    return markdown(header, rows)


def _traced(row: Found) -> list[str]:
    """Kernels of a way that has a trace."""
    if row.get("launch_bound") is None:
        return ["-"] * 3
    trace = row["trace"]
    return [
        f"{trace['kernel_ms']:.1f}",
        f"{trace['launches']:.0f}",
        f"{row['launch_bound']:.0%}",
    ]


def _moved(row: Found) -> list[str]:
    """Copies and waits of a way that has a trace of a GPU."""
    if row.get("launch_bound") is None:
        return ["-"] * 5
    copies = row["trace"]["copies"]
    cells = [(f"{copies[way]['count']:.0f}", f"{copies[way]['kb']:.0f}") for way in ("up", "down")]
    return [*cells[0], *cells[1], f"{row['trace']['waits']['count']:.0f}"]


def _kernels(found: Sequence[Found]) -> str:
    """The kernels that took most, by trace; on a CPU the operators."""
    rows = []
    for one in found:
        for way, row in _ways(one):
            trace = row.get("trace")
            if trace is None:
                continue
            tops = [(k["name"], k["ms"]) for k in trace["top_kernels"]]
            tops = tops or [(o["name"], o["host_ms"]) for o in trace["top_operators"]]
            named = [f"`{_short(name)}` {ms:.2f} ms" for name, ms in tops[:NAMED]]
            rows.append([*_names(one), way, *named, *["-"] * (NAMED - len(named)), trace["file"]])
    header = ["model", "px", "objects", "way", *(f"{i}." for i in range(1, NAMED + 1)), "trace"]
    return markdown(header, rows)


def _ways(one: Found) -> Iterator[tuple[str, Found]]:
    for row in one["engines"]:
        yield f"engine {row['engine']}", row
    for engine, row in one["pipelines"].items():
        yield f"pipeline {engine}", row


def _failures(found: Sequence[Found]) -> str:
    rows = [
        [*_names(one), part, reason] for one in found for part, reason in one["failures"].items()
    ]
    return markdown(["model", "px", "objects", "part", "why"], rows) if rows else ""


def _names(one: Found) -> list[str]:
    asked = one["configuration"]
    return [asked["model"], str(asked["image_size"]), str(asked["objects"])]


def _p50(spent: Found, stage: str) -> str:
    return f"{spent[stage]['p50']:.1f}" if stage in spent else "-"


def _short(name: str) -> str:
    """The name of a kernel without what would break a table."""
    bare = name.removeprefix("void ").replace("|", "/")
    return bare if len(bare) <= 60 else f"{bare[:57]}..."
