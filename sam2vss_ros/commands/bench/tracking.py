"""`sam2vss bench tracking`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_pipeline_options,
    build_pipeline,
    parse_size,
    pipeline_options,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report
from sam2vss_ros.errors import InputError

SCORES = {
    "j": "J",
    "f": "F",
    "j16": "J at 16",
    "last": "J of the last",
    "j_return": "J after return",
}
"""Names of the scores in the figures and in tables."""

EXTRA = {
    "found": ("found", "recall"),
    "tracks": ("tracks in its video", "tracks"),
    "click_iou": ("click IoU", "click_iou"),
}
"""What is there if asked for: its name in tables, and that of the figure over all objects."""


def add_tracking(kinds: Any) -> None:
    """Declare `sam2vss bench tracking`."""
    parser = add_command(
        kinds,
        "tracking",
        usage="--data DIR [--frames N] [--discover] [--click] [--json FILE] [option ...]",
        help_="are objects followed on real video?",
        parent="sam2vss bench",
        description=(
            "Give the pipeline the true masks of a video's first frame, and measure how well it\n"
            "follows them, beside masks that stay (copy) and masks moved by optical flow (flow).\n"
            "DIR holds one of two kinds of material:\n\n"
            "  NAME/images/*.jpg and NAME/masks/*.png, as DAVIS: ids of objects, 0 for none\n"
            "  images/*.jpg and labels/*.png, every frame labelled with the class ids of CamVid:\n"
            "  cars, people, cyclists and signs that the labels let follow for 16 frames\n\n"
            "J is the IoU and F that of contours (DAVIS), means over frames 2 to N; J at 16 is 16\n"
            "frames after the first one. docs/tracking.md says more."
        ),
        examples=(
            "  sam2vss bench tracking --data davis --frames 20 --json tracking.json\n"
            "  sam2vss bench tracking --data camvid/val --size 768x576\n"
            "  sam2vss bench tracking --data davis --discover --click    # without masks, too\n"
            "  sam2vss bench tracking --data my_videos --model sam2.1_hiera_tiny"
        ),
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the videos and their truth"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=0,
        metavar="N",
        help="only the first N of each video (default 0: all)",
    )
    parser.add_argument(
        "--discover",
        action="store_true",
        help="measure what the pipeline finds by itself within 32 frames, too: the share of the "
        "objects that some track covers with an IoU of 0.5, and how many tracks there are",
    )
    parser.add_argument(
        "--click",
        action="store_true",
        help="measure the mask that one click in the middle of each object gives, too",
    )
    parser.add_argument(
        "--size",
        metavar="WxH",
        help="size in pixels of the images that the pipeline is given (default: as they are); "
        "masks are measured at that of the truth all the same",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=30.0,
        metavar="HZ",
        help="frames per second of the videos (default 30)",
    )
    add_pipeline_options(parser)
    add_report(parser, _tracking)


def _tracking(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.tracking import open_clips, run_tracking

    if args.frames < 0 or args.frames == 1:
        raise InputError(f"frames: {args.frames} leaves nothing to follow; give 2 or more, 0: all")
    if not 0 < args.rate < math.inf:
        raise InputError(f"rate: {args.rate} is not a positive number of frames per second")
    size = None if args.size is None else parse_size(args.size)
    clips = open_clips(args.data, args.frames)
    options = pipeline_options(args)
    with closing(build_pipeline(options)) as pipeline:
        perception, config = pipeline.perception, pipeline.config
    figures = run_tracking(
        perception, config, clips, size, args.rate, discovery=args.discover, clicks=args.click
    )
    parts: list[str | Table] = [_sequences(figures), "means, by the way to follow:", _ways(figures)]
    if args.discover:
        rows = figures["sequences"].values()
        parts.append(
            f"discovery: recall {figures['recall']:.3f}, {sum(row['found'] for row in rows)} of "
            f"{len(rows)} objects, by {figures['tracks']} tracks in {len(clips)} videos"
        )
    if args.click:
        parts.append(f"one click in the middle: mean IoU {figures['click_iou']:.3f}")
    about = {"frames": args.frames, "size": size, "rate": args.rate, "options": options}
    return Report(parts, {**figures, **about}, perception.device)


def _sequences(figures: Mapping[str, Any]) -> Table:
    """A row for each object and one of means; the baselines' J first."""
    baselines = figures["baselines"]
    sequences = figures["sequences"]
    extra = [name for name in EXTRA if name in next(iter(sequences.values()))]
    header = ["object", *(f"{way} J" for way in baselines), *SCORES.values()]
    rows = [
        [
            name,
            *(_cell(baseline["sequences"][name]["j"]) for baseline in baselines.values()),
            *(_cell(row[score]) for score in (*SCORES, *extra)),
        ]
        for name, row in sequences.items()
    ]
    means = [_cell(baseline["mean_j"]) for baseline in baselines.values()]
    means += [_cell(figures[f"mean_{score}"]) for score in SCORES]
    means += [_cell(figures[EXTRA[name][1]]) for name in extra]
    return Table([*header, *(EXTRA[name][0] for name in extra)], [*rows, ["mean", *means]])


def _ways(figures: Mapping[str, Any]) -> Table:
    ways = {**figures["baselines"], "pipeline": figures}
    rows = [[way, *(_cell(found[f"mean_{s}"]) for s in SCORES)] for way, found in ways.items()]
    return Table(["", *SCORES.values()], rows)


def _cell(value: float | bool | None) -> str:
    """A figure of a table; a count as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
