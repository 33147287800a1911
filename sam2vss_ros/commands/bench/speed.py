"""`sam2vss bench speed`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.commands.bench.material import (
    add_material_options,
    load,
    make_discovery,
    use_defaults,
    use_threads,
)
from sam2vss_ros.commands.bench.report import Report, Table, add_report, with_progress
from sam2vss_ros.errors import InputError

if TYPE_CHECKING:
    from sam2vss_ros.bench.material import Discovery
    from sam2vss_ros.io.readers import FrameSource
    from sam2vss_ros.sam2.build import Sam2Model

STAGES = ("encode", "attention", "decode", "memory write", "other")


def add_speed(kinds: Any) -> None:
    """Declare `sam2vss bench speed`."""
    parser = add_command(
        kinds,
        "speed",
        usage="--video VIDEO [--objects N ...] [option ...]",
        help_="frames per second of the engine and its options, beside upstream",
        parent="sam2vss bench",
        description=(
            "Follow the same objects through the same frames with SAM2VideoPredictor (upstream),\n"
            "with the exact engine, with each option of the engine alone, and with the preset\n"
            "fast. All take each frame in turn, so that what else the machine does falls on all.\n"
            "One row for each:\n"
            "  fps, ratio    frames per second of image encoder, attention, decoder and memory\n"
            "                write for all objects; and as a multiple of upstream's\n"
            "  IoU to exact  of the masks, mean over objects and frames; and without the tiles of\n"
            "                the image that make up what discovery lacks\n"
            "  peak MB       what is kept from frame to frame (upstream's grows), and the most\n"
            "                that tensors take during a frame; weights are not in it\n"
            "  GFLOP         counted arithmetic of a frame, and the share that it reaches of the\n"
            "                speed of one big matrix product on this machine\n"
            "  stages        p50 / p95 in milliseconds, of the frames that they ran on\n\n"
            "Beside edgetam, which upstream has not, upstream runs sam2.1_hiera_tiny.\n"
            "Several models, sizes and numbers of objects make one table of all combinations.\n"
            "With --random-weights only the speed means something: objects are found where their\n"
            "prompts are, and masks are not compared."
        ),
        examples=(
            "  sam2vss bench speed --video street.mp4 --model mine.yaml --objects 16 --device cpu\n"
            "  sam2vss bench speed --video street.mp4 --device cuda --precision bfloat16 \\\n"
            "      --model sam2.1_hiera_tiny sam2.1_hiera_large --image-size 512 1024 \\\n"
            "      --objects 1 8 32 64 --random-weights --json gpu.json"
        ),
    )
    add_material_options(parser, several=True)
    parser.add_argument(
        "--objects", nargs="+", type=int, default=[4], metavar="N", help="how many (default 4)"
    )
    parser.add_argument(
        "--frames", type=int, default=30, metavar="F", help="frames of the video (default 30)"
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="arithmetic on a GPU; IoU is to the exact engine in float32 all the same",
    )
    add_report(parser, _speed)


def _speed(args: argparse.Namespace) -> Report:
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.sam2.build import resolve_device

    use_defaults(args)
    source = open_frames(args.video)
    rows: list[dict[str, Any]] = []
    for model, image_size in product(args.model, args.image_size):
        discovery = make_discovery(args, model, args.objects)
        loaded = load(args, model, image_size, args.precision)
        for objects in args.objects:
            rows += _rows(args, source, discovery, loaded, objects)
    parts: list[str | Table] = [_table(rows)]
    if args.random_weights:
        note = "random weights: only the speed means something; objects held at their prompts"
        parts.insert(0, note)
    figures = {
        "rows": rows,
        "video": str(source.path),
        "frames": args.frames,
        "random_weights": args.random_weights,
    }
    return Report(parts, figures, resolve_device(args.device))


def _rows(
    args: argparse.Namespace,
    source: FrameSource,
    discovery: Discovery,
    model: Sam2Model,
    objects: int,
) -> list[dict[str, Any]]:
    """The figures of every engine with one model and one number of objects."""
    from sam2vss_ros.bench.material import first_frames
    from sam2vss_ros.bench.speed import Plan, compare_speed, engines

    try:
        plan = Plan.of(model.network, engines().values(), args.frames)
    except ValueError as error:
        raise InputError(str(error)) from error
    name, size = model.card.name, model.network.image_size
    images = first_frames(source, plan.frames)
    prompts, found = discovery.prompts(next(first_frames(source, 1)), objects, size)
    use_threads(args.threads)
    frames = with_progress(images, plan.frames, f"{name}, {size} px, {objects} objects")
    rows = compare_speed(model, frames, prompts, found, plan, args.random_weights)
    what = {
        "model": name,
        "image_size": size,
        "objects": objects,
        "discovered": found,
        "precision": str(model.dtype).removeprefix("torch."),
        "timed_frames": plan.timed,
    }
    return [{**row, **what} for row in rows]


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    header = ["model", "px", "objects", "engine", "fps", "ratio", "IoU to exact", "discovered"]
    header += ["peak MB", "GFLOP", "share", *(f"{stage} ms" for stage in STAGES)]
    return Table(header, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    ious = row["mean_iou_to_exact"], row["mean_iou_discovered"]
    spent = [row["stage_ms"].get(stage) for stage in STAGES]
    return [
        row["model"],
        str(row["image_size"]),
        str(row["objects"]),
        row["engine"],
        f"{row['fps']:.2f}",
        f"{row['ratio']:.2f}",
        *("-" if iou is None else f"{iou:.4f}" for iou in ious),
        f"{row['peak_mb']:.0f}",
        f"{row['gflop']:.1f}",
        f"{row['share']:.0%}",
        *("-" if ms is None else f"{ms['p50']:.1f} / {ms['p95']:.1f}" for ms in spent),
    ]
