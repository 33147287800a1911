"""`sam2vss bench depth`."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report
from sam2vss_ros.errors import InputError


def add_depth(kinds: Any) -> None:
    """Declare `sam2vss bench depth`."""
    parser = add_command(
        kinds,
        "depth",
        usage="[--frames F] [--json FILE] [option ...]",
        help_="what do objects in space and clouds cost?",
        parent="sam2vss bench",
        description=(
            "Follow ten drawn objects at 640x480 and print the milliseconds of the segmentation,\n"
            "and of what depth adds to it: the objects in space, and the cloud in each layout\n"
            "with its bytes as a message holds them."
        ),
        examples="  sam2vss bench depth\n  sam2vss bench depth --frames 200 --json depth.json",
    )
    parser.add_argument(
        "--frames", type=int, default=50, metavar="F", help="how many are timed (default 50)"
    )
    add_pipeline_options(parser, without=("discovery", "max_objects"))
    add_report(parser, _depth)


def _depth(args: argparse.Namespace) -> Report:
    import numpy as np

    from sam2vss_ros.bench.depth import OBJECTS, time_depth

    if args.frames < 1:
        raise InputError(f"frames: {args.frames} are too few; give 1 or more")
    options = pipeline_options(args, discovery="off", max_objects=OBJECTS)
    with closing(build_pipeline(options)) as pipeline:
        device = pipeline.device
        spent = time_depth(pipeline, args.frames, warm_up=5)
    stages = {
        what: {
            "p50": float(np.percentile(ms, 50)),
            "p95": float(np.percentile(ms, 95)),
            "mean": float(np.mean(ms)),
        }
        for what, ms in spent.items()
    }
    table = Table(
        ["stage", "p50 ms", "p95 ms", "mean ms"],
        [[what, *(f"{v:.2f}" for v in ms.values())] for what, ms in stages.items()],
    )
    return Report([table], {"frames": args.frames, "stage_ms": stages, "options": options}, device)
