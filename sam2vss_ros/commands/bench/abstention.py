"""`sam2vss bench abstention`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_pipeline_options,
    build_pipeline,
    pipeline_options,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report, with_progress
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.bench.abstention import Scored, Spoken


HOW = ("without", "with")


def add_abstention(kinds: Any) -> None:
    """Declare `sam2vss bench abstention`."""
    parser = add_command(
        kinds,
        "abstention",
        usage="--unknown CLIP ... [--known IMAGES LABELS] [--frames F] [--json FILE] [option ...]",
        help_="is nothing said of scenes that the semantics do not know?",
        parent="sam2vss bench",
        description=(
            "Label recordings of scenes that hold none of the known classes, where every pixel\n"
            "with a class is a wrong one, and labelled images that do hold them, where silence\n"
            "costs: once without abstention, and once with that of min_class_score."
        ),
        examples=(
            "  sam2vss bench abstention --unknown kitchen.mp4 hall/ --known val/images val/labels\n"
            "  sam2vss bench abstention --unknown kitchen.mp4 --min-class-score 0.5"
        ),
    )
    parser.add_argument(
        "--unknown",
        nargs="+",
        required=True,
        metavar="VIDEO|FOLDER",
        help="recordings without any of the known classes",
    )
    parser.add_argument(
        "--known",
        nargs=2,
        type=Path,
        metavar=("IMAGES", "LABELS"),
        help="labelled images, with the ids of the semantics' classes",
    )
    parser.add_argument(
        "--frames", type=int, default=0, metavar="F", help="of each recording (default 0: all)"
    )
    parser.add_argument(
        "--rate", type=float, default=15.0, metavar="HZ", help="of labelled images (default 15)"
    )
    add_pipeline_options(parser)
    add_report(parser, _abstention)


def _abstention(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.abstention import score_known, speak
    from sam2vss_ros.io.label_files import LabelRules
    from sam2vss_ros.io.readers import labelled_folder, open_frames

    if args.frames < 0:
        raise InputError(f"frames: {args.frames} is no number of frames; give 1 or more, 0: all")
    try:
        asked = PipelineConfig.from_mapping(pipeline_options(args)).min_class_score
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    scores = (0.0, asked)
    sources = [open_frames(path) for path in args.unknown]
    options = pipeline_options(args, min_class_score=0.0)
    unknown: dict[str, dict[float, Spoken]] = {}
    known: dict[float, Scored] | None = None
    with closing(build_pipeline(options)) as pipeline:
        device = pipeline.device
        streams = []
        if args.known:
            images, labels = args.known
            streams = labelled_folder(images, labels, args.rate, LabelRules(pipeline.catalog))
        for path, source in zip(args.unknown, sources, strict=True):
            count = min(filter(None, (args.frames, source.count)), default=0)
            frames = islice(source, args.frames or None)
            unknown[path] = speak(pipeline, with_progress(frames, count, name_of(path)), scores)
        if args.known:
            shown = (with_progress(s.read(), s.count, s.name or "known") for s in streams)
            known = score_known(pipeline, shown, scores)
    parts: list[str | Table] = ["unknown scenes, where every class is wrong:", _wrong(unknown)]
    if known is not None:
        parts += ["known scenes:", _cost(known)]
    figures = {
        "min_class_score": asked,
        "unknown": {path: _plain(found) for path, found in unknown.items()},
        "known": None if known is None else _plain(known),
        "options": options,
    }
    return Report(parts, figures, device)


def _wrong(unknown: dict[str, dict[float, Spoken]]) -> Table:
    """A row for each recording: what has a class without abstention and with it."""
    rows = []
    for path, found in unknown.items():
        without, with_it = found.values()
        rows.append(
            [
                name_of(path),
                str(with_it.frames),
                *map(_percent, (without.labelled, with_it.labelled, without.named, with_it.named)),
            ]
        )
    heads = [f"{what} with a class, {how}" for what in ("pixels", "objects") for how in HOW]
    return Table(["recording", "frames", *heads], rows)


def _cost(known: dict[float, Scored]) -> Table:
    """A row for each way: what abstention takes from mIoU, and what of it was wrong."""
    rows = [
        [how, str(of.frames), f"{of.miou:.4f}", _percent(of.labelled), _percent(of.right)]
        for how, of in zip(HOW, known.values(), strict=True)
    ]
    return Table(["", "frames", "mIoU", "pixels with a class", "right of them"], rows)


def name_of(path: str) -> str:
    """What a recording is called: a folder of images is seldom named by its own name alone."""
    return "/".join(Path(path).parts[-2:])


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def _plain(found: Mapping[float, Spoken | Scored]) -> dict[str, dict[str, float | None]]:
    """As JSON has it."""
    return {
        how: {k: None if math.isnan(v) else round(v, 4) for k, v in asdict(of).items()}
        for how, of in zip(HOW, found.values(), strict=True)
    }
