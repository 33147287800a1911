"""`sam2vss bench identity`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
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

USUAL = {"max_objects": 16, "keyframe_interval": 8}
"""Options of the scenes, where not said otherwise."""


def add_identity(kinds: Any) -> None:
    """Declare `sam2vss bench identity`."""
    parser = add_command(
        kinds,
        "identity",
        usage="[--clips N] [--frames F] [--seed S] [--json FILE] [option ...]",
        help_="do objects keep their ids when they leave and return?",
        parent="sam2vss bench",
        description=(
            "Procedural scenes in which figures leave the picture, or go behind a pillar, for 10\n"
            "to 60 frames and return among others that look much like them. Measured are the\n"
            "whole pipeline, the pipeline whose discovery is handed the true masks, and the\n"
            "re-identification alone, with true masks throughout, at several thresholds.\n\n"
            "Here discovery runs every 8 frames for at most 16 objects, where not said otherwise."
        ),
        examples=(
            "  sam2vss bench identity --clips 4 --json identity.json\n"
            "  sam2vss bench identity --clips 4 --revive-similarity 0.75"
        ),
    )
    parser.add_argument(
        "--clips", type=int, default=4, metavar="N", help="how many scenes (default 4)"
    )
    parser.add_argument(
        "--frames", type=int, default=140, metavar="F", help="frames of each (default 140)"
    )
    parser.add_argument(
        "--seed", type=int, default=1000, metavar="S", help="of the first scene (default 1000)"
    )
    add_pipeline_options(parser)
    add_report(parser, _identity)


def _identity(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.identity import run_identity

    for name in ("clips", "frames"):
        if getattr(args, name) < 1:
            raise InputError(f"{name}: {getattr(args, name)} are too few; give 1 or more")
    if args.seed < 0:
        raise InputError(f"seed: {args.seed} is negative")
    with closing(build_pipeline(USUAL | pipeline_options(args))) as pipeline:
        device = pipeline.device
        result = run_identity(
            pipeline.perception, pipeline.config, args.clips, args.frames, args.seed
        )
    parts: list[str | Table] = [
        _comparison(result["pipeline"], result["true_discovery"]),
        "re-identification alone, by its threshold:",
        _thresholds(result["alone"]),
    ]
    return Report(parts, result, device)


def _comparison(whole: Mapping[str, float], given: Mapping[str, float]) -> Table:
    rows = [[n.replace("_", " "), f"{whole[n]:.3g}", f"{given[n]:.3g}"] for n in whole]
    return Table(["", "pipeline", "true discovery"], rows)


def _thresholds(alone: Sequence[Mapping[str, Any]]) -> Table:
    header = ["revive_similarity", "returns", "recognised", "false revivals", "share recognised"]
    rows = [
        [
            f"{row['revive_similarity']:.2f}",
            *(str(row[n]) for n in ("returns", "recognised", "false_revivals")),
            f"{row['share_recognised']:.2f}",
        ]
        for row in alone
    ]
    return Table(header, rows)
