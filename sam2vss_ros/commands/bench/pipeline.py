"""`sam2vss bench pipeline`."""

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import islice
from typing import Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report, with_progress
from sam2vss_ros.errors import InputError


def add_pipeline(kinds: Any) -> None:
    """Declare `sam2vss bench pipeline`."""
    parser = add_command(
        kinds,
        "pipeline",
        usage="--video VIDEO [--frames F] [--json FILE] [option ...]",
        help_="how long each stage of the whole pipeline takes",
        parent="sam2vss bench",
        description=(
            "Run the whole pipeline over a recording and print p50, p95 and mean of the\n"
            "milliseconds that its stages take, without reading and drawing, and what the process\n"
            "holds in the end. Then run it once more with the networks ahead of the frames."
        ),
        examples=(
            "  sam2vss bench pipeline --video street.mp4 --frames 100\n"
            "  sam2vss bench pipeline --video street.mp4 --mode classify --max-objects 32"
        ),
    )
    parser.add_argument(
        "--video", required=True, metavar="VIDEO|FOLDER", help="the frames to process"
    )
    parser.add_argument(
        "--frames", type=int, default=100, metavar="F", help="how many (default 100)"
    )
    parser.add_argument(
        "--warm-up",
        type=int,
        default=10,
        metavar="F",
        help="frames at the beginning that are not timed (default 10)",
    )
    add_pipeline_options(parser)
    add_report(parser, _pipeline)


def _pipeline(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.pipeline import ahead_fps, time_pipeline
    from sam2vss_ros.io.readers import open_frames

    source = open_frames(args.video)
    options = pipeline_options(args)
    with closing(build_pipeline(options)) as pipeline:
        device = pipeline.device
        frames = with_progress(islice(source, args.frames), args.frames, "pipeline")
        try:
            result = time_pipeline(pipeline, frames, args.warm_up)
        except ValueError as error:
            raise InputError(str(error)) from error
        pipeline.reset()
        frames = with_progress(islice(source, args.frames), args.frames, "looking ahead")
        result["ahead_fps"] = ahead_fps(pipeline, frames, args.warm_up)
    summary = (
        f"{result['fps']:.1f} frames/s over {result['frames']} frames, at most "
        f"{result['objects']} objects at a time, {result['ids']} in all; the process holds "
        f"{result['resident_mb']:.0f} MB"
    )
    stages = Table(
        ["stage", "p50 ms", "p95 ms", "mean ms"],
        [[stage, *(f"{v:.1f}" for v in ms.values())] for stage, ms in result["stage_ms"].items()],
    )
    ahead = (
        f"{result['ahead_fps']:.1f} frames/s, reading included, with the networks ahead, "
        f"as sam2vss run has them: {result['ahead_fps'] / result['fps']:.2f} times as many"
    )
    return Report([summary, stages, ahead], {**result, "options": options}, device)
