"""`sam2vss bench memory`."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report, with_progress
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.bench.memory import Endurance

BUSY = {"max_objects": 12, "keyframe_interval": 16, "forget_after": 60}
"""Options with which many objects come and go."""

SHOWN = 20
"""Samples in the table, about."""


def add_memory(kinds: Any) -> None:
    """Declare `sam2vss bench memory`."""
    parser = add_command(
        kinds,
        "memory",
        usage="[--frames F] [--json FILE] [option ...]",
        help_="does an endless stream hold no more than a short one?",
        parent="sam2vss bench",
        description=(
            "Run the whole pipeline on procedural video, drives along ever new streets in one\n"
            "stream, and watch what the engine and the process hold, and the ids of objects.\n"
            "For much coming and going there are 12 objects, looked for every 16 frames and\n"
            "forgotten after 60, unless options say otherwise.\n\n"
            "Ends with code 1 unless the bytes of the engine are the same all the time, the\n"
            "memory of the process stays within 2 % after the first 5 % of the frames, and no id\n"
            "is ever given twice. Of less than some 6000 frames the first 5 % are too few for the\n"
            "process to have all the memory it needs."
        ),
        examples=(
            "  sam2vss bench memory --frames 20000 --image-size 128 --json memory.json\n"
            "  sam2vss bench memory --frames 2000 --image-size 128 --max-objects 32"
        ),
    )
    parser.add_argument(
        "--frames", type=int, default=20000, metavar="F", help="how many (default 20000)"
    )
    add_pipeline_options(parser)
    add_report(parser, _memory)


def _memory(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.memory import endless_street, endure

    if args.frames < 20:
        raise InputError(f"frames: {args.frames} are too few to tell anything; give 20 or more")
    options = BUSY | pipeline_options(args)
    with closing(build_pipeline(options)) as pipeline:
        device = pipeline.device
        frames = with_progress(endless_street(args.frames, (120, 160)), args.frames, "memory")
        result = endure(pipeline, frames, args.frames)
    summary = (
        f"engine: {result.engine_growth} bytes between most and least; process: "
        f"{result.process_growth:.2%}; {args.frames / result.seconds:.1f} frames/s with drawing"
    )
    verdict = "\n".join([summary, *(f"not met: {problem}" for problem in result.problems)])
    figures = {
        "frames": args.frames,
        "engine_bytes_growth": result.engine_growth,
        "process_growth": result.process_growth,
        "problems": result.problems,
        "seconds": result.seconds,
        "samples": [asdict(s) for s in result.samples],
        "options": options,
    }
    return Report([_table(result), verdict], figures, device, not result.problems)


def _table(result: Endurance) -> Table:
    rows = [
        [
            str(s.frame),
            str(s.engine_bytes),
            f"{s.process_bytes / 1e6:.1f}",
            str(s.objects),
            str(s.ids),
        ]
        for s in result.samples[:: len(result.samples) // SHOWN]
    ]
    return Table(["frames", "engine bytes", "process MB", "objects", "ids given"], rows)
