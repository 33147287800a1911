"""`sam2vss bench parity`, `speed`, `memory`, `pipeline` and `identity`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    Parser,
    add_command,
    add_json_option,
    add_pipeline_options,
    build_pipeline,
    check_json,
    pipeline_options,
    write_json,
)
from sam2vss_ros.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from sam2vss_ros.bench.material import Discovery
    from sam2vss_ros.io.readers import FrameSource
    from sam2vss_ros.sam2.build import Sam2Model

NOT_MET = 1
"""Exit code where what is measured is not as it should be."""


def add_bench(commands: Any) -> None:
    """Declare `sam2vss bench parity`, `speed`, `memory`, `pipeline` and `identity`."""
    parser = add_command(
        commands,
        "bench",
        usage="parity|speed|memory|pipeline|identity ...",
        help_="measure the engine: parity with upstream, speed, memory",
        description=(
            "parity    are our masks those of SAM 2's own video predictor?\n"
            "speed     frames per second beside upstream, by option of the engine and by stage\n"
            "memory    does an endless stream hold no more than a short one?\n"
            "pipeline  how long each stage of the whole pipeline takes\n"
            "identity  do objects keep their ids when they leave and return?"
        ),
        examples=(
            "  sam2vss bench parity --video street.mp4 --objects 8 --frames 40 --add-at 20\n"
            "  sam2vss bench speed --video street.mp4 --objects 16 --device cpu --json speed.json\n"
            "  sam2vss bench speed --help"
        ),
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, parser_class=Parser)
    add_bench_parity(kinds)
    add_bench_speed(kinds)
    add_bench_memory(kinds)
    add_bench_pipeline(kinds)
    add_bench_identity(kinds)


def add_material_options(parser: argparse.ArgumentParser) -> None:
    """The options of the benchmarks that compare engines."""
    parser.add_argument(
        "--video", required=True, metavar="VIDEO|FOLDER", help="the frames to follow objects in"
    )
    parser.add_argument(
        "--checkpoint", default="", help="weights of one of Meta's models, where not found by name"
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="an untrained network, where the weights are not at hand",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads (default: all cores)"
    )
    add_json_option(parser)


def add_bench_parity(kinds: Any) -> None:
    """Declare `sam2vss bench parity`."""
    parser = add_command(
        kinds,
        "parity",
        usage="--video VIDEO [--objects N] [--frames F] [--add-at FRAME] [option ...]",
        help_="our masks against those of SAM 2's own video predictor",
        parent="sam2vss bench",
        description=(
            "Follow the same objects through the same frames with the exact engine and with\n"
            "SAM2VideoPredictor, in float32, and compare their masks at stride 4. Objects are\n"
            "those that discovery finds on the first frame; tiles of the image make up what it\n"
            "lacks.\n\n"
            "Frames are read one by one, but upstream keeps what it saw on each: 49 kB per\n"
            "frame and object of nano at 256 px (20,000 frames of 16 objects in 16 GB), 1.3 MB of\n"
            "Meta's models at 1024 px (750 frames).\n\n"
            "Ends with code 1 where the mean IoU is below 0.999."
        ),
        examples=(
            "  sam2vss bench parity --video street.mp4 --objects 8 --frames 40 --add-at 20\n"
            "  sam2vss bench parity --video street.mp4 --model sam2.1_hiera_tiny \\\n"
            "      --image-size 512 --device cuda --json parity.json"
        ),
    )
    add_material_options(parser)
    parser.add_argument("--model", default="nano", help="SAM 2 model (default nano)")
    parser.add_argument("--image-size", type=int, default=0, help="side of its input, 0: its own")
    parser.add_argument(
        "--objects", type=int, default=8, metavar="N", help="how many (default 8; 1 to 256)"
    )
    parser.add_argument(
        "--frames", type=int, default=40, metavar="F", help="how many (default 40; 2 or more)"
    )
    parser.add_argument(
        "--add-at",
        type=int,
        default=0,
        metavar="FRAME",
        help="half of the objects come on this frame, found there (the first is 0)",
    )
    parser.add_argument(
        "--rounded-memory",
        action="store_true",
        help="let upstream round memories to bfloat16 in its store, as it does by itself",
    )
    parser.set_defaults(command=_bench_parity)


def _bench_parity(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sam2vss_ros.bench.material import first_frames
    from sam2vss_ros.bench.parity import compare
    from sam2vss_ros.bench.report import machine, markdown
    from sam2vss_ros.io.readers import open_frames

    check_json(args.json)
    if args.frames < 2:
        raise InputError(f"frames: {args.frames} are too few to follow anything; give 2 or more")
    if not 0 <= args.add_at < args.frames:
        raise InputError(f"add-at: frame {args.add_at} is not one of 0 to {args.frames - 1}")
    if args.add_at and args.objects < 2:
        raise InputError("add-at: takes 2 objects or more, half of them are added later")
    source = open_frames(args.video)
    images = first_frames(source, args.frames)
    discovery = _discovery(args, args.model, [args.objects])
    model = _model(args, args.model, args.image_size, "float32")
    size, late = model.network.image_size, args.objects // 2 if args.add_at else 0
    starting = {0: args.objects - late, args.add_at: late} if late else {0: args.objects}
    prompts = {
        t: discovery.prompts(image, args.objects, size)[0][-starting[t] :]
        for t, image in enumerate(first_frames(source, args.add_at + 1))
        if t in starting
    }
    _use_threads(args.threads)
    frames = tqdm(images, total=args.frames, unit="frame", desc="parity")
    result = compare(model, frames, prompts, exact_memory=not args.rounded_memory)
    print(
        f"\n{args.model} at {size} px on {source.path.name}, exact engine against upstream, float32"
        + (", random weights" if args.random_weights else "")
        + (", upstream's memories rounded to bfloat16" if args.rounded_memory else "")
        + "\n"
    )
    header = ["objects", "frames", "seen", "mean IoU", "least IoU", "largest logit difference"]
    figures = [
        str(result.objects),
        str(result.frames),
        f"{result.seen:.0%}",
        f"{result.mean_iou:.6f}",
        f"{result.min_iou:.6f}",
        f"{result.max_logit_diff:.2e}",
    ]
    print(markdown(header, [figures]))
    report = {
        "mean_iou": result.mean_iou,
        "min_iou": result.min_iou,
        "max_logit_diff": result.max_logit_diff,
        "frames": result.frames,
        "objects": result.objects,
        "seen": result.seen,
        "add_at": args.add_at,
        "model": args.model,
        "image_size": size,
        "random_weights": args.random_weights,
        "rounded_memory": args.rounded_memory,
        "video": str(source.path),
        "machine": machine(model.device),
    }
    write_json(args.json, report)
    return 0 if result.holds else NOT_MET


def add_bench_speed(kinds: Any) -> None:
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
            "Several models, sizes and numbers of objects make one table of all combinations.\n"
            "With --random-weights only the speed means something: objects are held where their\n"
            "prompts are, and masks are not compared."
        ),
        examples=(
            "  sam2vss bench speed --video street.mp4 --model nano --objects 16 --device cpu\n"
            "  sam2vss bench speed --video street.mp4 --device cuda --precision bfloat16 \\\n"
            "      --model sam2.1_hiera_tiny sam2.1_hiera_large --image-size 512 1024 \\\n"
            "      --objects 1 8 32 64 --random-weights --json gpu.json"
        ),
    )
    add_material_options(parser)
    parser.add_argument("--model", nargs="+", default=["nano"], help="SAM 2 models (default nano)")
    parser.add_argument(
        "--image-size", nargs="+", type=int, default=[0], help="sides of their input, 0: their own"
    )
    parser.add_argument(
        "--objects", nargs="+", type=int, default=[16], metavar="N", help="how many (default 16)"
    )
    parser.add_argument(
        "--frames", type=int, default=60, metavar="F", help="frames of the video (default 60)"
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="arithmetic on a GPU; IoU is to the exact engine in float32 all the same",
    )
    parser.set_defaults(command=_bench_speed)


def _bench_speed(args: argparse.Namespace) -> None:
    from itertools import product

    from sam2vss_ros.bench.report import machine, markdown
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.sam2.build import resolve_device

    check_json(args.json)
    source = open_frames(args.video)
    rows: list[dict[str, Any]] = []
    for model, image_size in product(args.model, args.image_size):
        discovery = _discovery(args, model, args.objects)
        loaded = _model(args, model, image_size, args.precision)
        for objects in args.objects:
            rows += _speed_rows(args, source, discovery, loaded, objects)
    header = ["model", "px", "objects", "engine", "fps", "ratio", "IoU to exact", "discovered",
              "peak MB", "GFLOP", "share", *(f"{stage} ms" for stage in SPEED_STAGES)]  # fmt: skip
    about = machine(resolve_device(args.device))
    print(f"\n{about['device']}, {about['threads']} CPU threads, torch {about['torch']}")
    if args.random_weights:
        print("random weights: only the speed means something; objects held at their prompts")
    print("\n" + markdown(header, [_speed_cells(row) for row in rows]))
    report = {"rows": rows, "machine": about, "video": str(source.path), "frames": args.frames,
              "random_weights": args.random_weights}  # fmt: skip
    write_json(args.json, report)


SPEED_STAGES = ("encode", "attention", "decode", "memory write", "other")


def _speed_rows(
    args: argparse.Namespace,
    source: FrameSource,
    discovery: Discovery,
    model: Sam2Model,
    objects: int,
) -> list[dict[str, Any]]:
    from tqdm import tqdm

    from sam2vss_ros.bench.material import first_frames
    from sam2vss_ros.bench.speed import Plan, compare_speed, engines

    try:
        plan = Plan.of(model.network, engines().values(), args.frames)
    except ValueError as error:
        raise InputError(str(error)) from error
    name, size = model.card.name, model.network.image_size
    images = first_frames(source, plan.frames)
    prompts, found = discovery.prompts(next(first_frames(source, 1)), objects, size)
    _use_threads(args.threads)
    frames = tqdm(
        images,
        total=plan.frames,
        unit="frame",
        desc=f"{name}, {size} px, {objects} objects",
    )
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


def _speed_cells(row: dict[str, Any]) -> list[str]:
    ious = row["mean_iou_to_exact"], row["mean_iou_discovered"]
    spent = [row["stage_ms"].get(stage) for stage in SPEED_STAGES]
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


def add_bench_memory(kinds: Any) -> None:
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
    add_json_option(parser)
    add_pipeline_options(parser)
    parser.set_defaults(command=_bench_memory)


def _bench_memory(args: argparse.Namespace) -> int:
    from contextlib import closing
    from dataclasses import asdict

    from tqdm import tqdm

    from sam2vss_ros.bench.memory import endless_street, endure
    from sam2vss_ros.bench.report import machine, markdown

    check_json(args.json)
    if args.frames < 20:
        raise InputError(f"frames: {args.frames} are too few to tell anything; give 20 or more")
    busy = {"max_objects": 12, "keyframe_interval": 16, "forget_after": 60}
    options = busy | pipeline_options(args)
    with closing(build_pipeline(options)) as pipeline:
        frames = tqdm(
            endless_street(args.frames, (120, 160)), total=args.frames, unit="frame", desc="memory"
        )
        result = endure(pipeline, frames, args.frames)
        about = machine(pipeline.device)
    shown = [s for i, s in enumerate(result.samples) if i % (len(result.samples) // 20) == 0]
    header = ["frames", "engine bytes", "process MB", "objects", "ids given"]
    table = [
        [
            str(s.frame),
            str(s.engine_bytes),
            f"{s.process_bytes / 1e6:.1f}",
            str(s.objects),
            str(s.ids),
        ]
        for s in shown
    ]
    print("\n" + markdown(header, table))
    print(
        f"\nengine: {result.engine_growth} bytes between most and least; process: "
        f"{result.process_growth:.2%}; {args.frames / result.seconds:.1f} frames/s with drawing"
    )
    for problem in result.problems:
        print(f"not met: {problem}")
    report = {
        "frames": args.frames,
        "engine_bytes_growth": result.engine_growth,
        "process_growth": result.process_growth,
        "problems": result.problems,
        "seconds": result.seconds,
        "samples": [asdict(s) for s in result.samples],
        "options": options,
        "machine": about,
    }
    write_json(args.json, report)
    return NOT_MET if result.problems else 0


def add_bench_pipeline(kinds: Any) -> None:
    """Declare `sam2vss bench pipeline`."""
    parser = add_command(
        kinds,
        "pipeline",
        usage="--video VIDEO [--frames F] [--json FILE] [option ...]",
        help_="how long each stage of the whole pipeline takes",
        parent="sam2vss bench",
        description=(
            "Run the whole pipeline over a recording and print p50, p95 and mean of the\n"
            "milliseconds that its stages take, without reading and drawing."
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
    add_json_option(parser)
    add_pipeline_options(parser)
    parser.set_defaults(command=_bench_pipeline)


def _bench_pipeline(args: argparse.Namespace) -> None:
    from contextlib import closing
    from itertools import islice

    from tqdm import tqdm

    from sam2vss_ros.bench.pipeline import time_pipeline
    from sam2vss_ros.bench.report import machine, markdown
    from sam2vss_ros.io.readers import open_frames

    check_json(args.json)
    source = open_frames(args.video)
    with closing(build_pipeline(pipeline_options(args))) as pipeline:
        frames = tqdm(islice(source, args.frames), total=args.frames, unit="frame", desc="pipeline")
        try:
            result = time_pipeline(pipeline, frames, args.warm_up)
        except ValueError as error:
            raise InputError(str(error)) from error
        about = machine(pipeline.device)
    print(f"\n{about['device']}, {about['threads']} CPU threads, torch {about['torch']}")
    print(
        f"{result['fps']:.1f} frames/s over {result['frames']} frames, at most "
        f"{result['objects']} objects at a time, {result['ids']} in all\n"
    )
    print(
        markdown(
            ["stage", "p50 ms", "p95 ms", "mean ms"],
            [
                [stage, *(f"{v:.1f}" for v in ms.values())]
                for stage, ms in result["stage_ms"].items()
            ],
        )
    )
    write_json(args.json, {**result, "options": pipeline_options(args), "machine": about})


def _discovery(args: argparse.Namespace, model: str, objects: Sequence[int]) -> Discovery:
    from sam2vss_ros.bench.material import Discovery

    if args.threads < 0:
        raise InputError(f"threads: {args.threads} is not a number of CPU threads; 0 takes all")
    for count in objects:
        if not 1 <= count <= 256:
            raise InputError(f"objects: {count} is not a number of objects from 1 to 256")
    return Discovery(model, args.checkpoint, args.device, args.random_weights)


def _model(args: argparse.Namespace, model: str, image_size: int, precision: str) -> Sam2Model:
    from sam2vss_ros.sam2.build import load_model, untrained_model

    try:
        if args.random_weights:
            return untrained_model(model, args.device, precision, image_size)
        return load_model(model, args.checkpoint, args.device, precision, image_size)
    except ModelUnavailableError as error:
        raise InputError(f"{error}; --random-weights does without, for speed alone") from error
    except ValueError as error:
        raise InputError(str(error)) from error


def _use_threads(threads: int) -> None:
    """After discovery, whose pipeline takes as many as suit it."""
    import os

    import torch

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def add_bench_identity(kinds: Any) -> None:
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
            "  sam2vss bench identity --model nano --clips 4 --json identity.json\n"
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
    add_json_option(parser)
    add_pipeline_options(parser)
    parser.set_defaults(command=_bench_identity)


def _bench_identity(args: argparse.Namespace) -> None:
    from contextlib import closing

    from sam2vss_ros.bench.identity import run_identity
    from sam2vss_ros.bench.report import markdown

    check_json(args.json)
    for name in ("clips", "frames"):
        if getattr(args, name) < 1:
            raise InputError(f"{name}: {getattr(args, name)} are too few; give 1 or more")
    if args.seed < 0:
        raise InputError(f"seed: {args.seed} is negative")
    usual = {"max_objects": 16, "keyframe_interval": 8}
    with closing(build_pipeline(usual | pipeline_options(args))) as pipeline:
        config = pipeline.config
    result = run_identity(config, args.clips, args.frames, args.seed)
    whole, given = result["pipeline"], result["true_discovery"]
    print()
    print(
        markdown(
            ("", "pipeline", "true discovery"),
            [
                (name.replace("_", " "), *(f"{r[name]:.3g}" for r in (whole, given)))
                for name in whole
            ],
        )
    )
    print("\nre-identification alone, by its threshold:\n")
    print(
        markdown(
            ("revive_similarity", "returns", "recognised", "false revivals", "share recognised"),
            [
                (
                    f"{row['revive_similarity']:.2f}",
                    *(str(row[n]) for n in ("returns", "recognised", "false_revivals")),
                    f"{row['share_recognised']:.2f}",
                )
                for row in result["alone"]
            ],
        )
    )
    write_json(args.json, result)
