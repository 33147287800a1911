"""`sam2vss bench pipeline`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
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
    from sam2vss_ros.config import PipelineConfig
    from sam2vss_ros.types import Frame


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
            "holds in the end. Then run it once more with the networks ahead of the frames.\n"
            "With --beside, a second pipeline with fewer objects takes each frame in turn, which\n"
            "tells what an object more costs, however busy the machine is."
        ),
        examples=(
            "  sam2vss bench pipeline --video street.mp4 --frames 100\n"
            "  sam2vss bench pipeline --video street.mp4 --mode classify --max-objects 32\n"
            "  sam2vss bench pipeline --video street.mp4 --max-objects 16 --beside 6"
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
    parser.add_argument(
        "--beside", type=int, metavar="N", help="also find the cost of an object, beside N at most"
    )
    add_pipeline_options(parser)
    add_report(parser, _pipeline)


def _pipeline(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.pipeline import ahead_fps, object_ms, time_pipeline
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.pipeline import VssPipeline

    source = open_frames(args.video)
    options = pipeline_options(args)
    with closing(build_pipeline(options)) as pipeline:
        device = pipeline.device
        fewer = None if args.beside is None else _fewer(pipeline.config, args.beside)

        def frames(title: str) -> Iterator[Frame]:
            return with_progress(islice(source, args.frames), args.frames, title)

        try:
            result = time_pipeline(pipeline, frames("pipeline"), args.warm_up)
            pipeline.reset()
            result["ahead_fps"] = ahead_fps(pipeline, frames("looking ahead"), args.warm_up)
            if fewer is not None:
                pipeline.reset()
                with closing(VssPipeline(pipeline.perception, fewer)) as few:
                    taken = frames(f"beside {args.beside} objects")
                    result["beside"] = object_ms(pipeline, few, taken, args.warm_up)
        except ValueError as error:
            raise InputError(str(error)) from error
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
    parts: list[str | Table] = [summary, stages, ahead]
    if fewer is not None:
        parts.append(_beside(result["beside"]))
    return Report(parts, {**result, "options": options}, device)


def _fewer(config: PipelineConfig, most: int) -> PipelineConfig:
    if not 0 < most < config.max_objects:
        raise InputError(f"beside: {most} is not from 1 to below max_objects, {config.max_objects}")
    return dataclasses.replace(config, max_objects=most)


def _beside(found: dict[str, float]) -> str:
    return (
        f"an object more in sight costs {found['object_ms']:.2f} ms: frame by frame in turn, "
        f"{found['in_sight']:.1f} objects take {found['frame_ms']:.1f} ms and "
        f"{found['beside_in_sight']:.1f} objects {found['beside_frame_ms']:.1f} ms"
    )
