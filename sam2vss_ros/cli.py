"""The command `sam2vss`: the pipeline, its evaluation and its models from a shell, without ROS.

Each command has one `add_...` function that declares it and one `_...` function that does it and
imports what it needs, so that `sam2vss --help` answers at once. `sam2vss bench` is in
`bench.commands`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.arguments import (
    BAD_INPUT,
    Parser,
    add_command,
    add_json_option,
    add_pipeline_options,
    build_pipeline,
    check_json,
    pipeline_options,
    write_json,
)
from sam2vss_ros.bench.commands import add_bench

if TYPE_CHECKING:
    from sam2vss_ros.evaluation.evaluate import Evaluation
    from sam2vss_ros.evaluation.run import RunSummary
    from sam2vss_ros.semantics.catalog import ClassCatalog

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 where a benchmark's demand is not met, 2 for bad
    input, 130 when interrupted."""
    args = make_parser().parse_args(arguments)
    logging.basicConfig(format="sam2vss: %(message)s", level=logging.WARNING)
    logging.getLogger("sam2vss_ros").setLevel(logging.INFO)
    from sam2vss_ros.evaluation.readers import InputError

    try:
        code: int | None = args.command(args)
    except InputError as error:
        print(f"sam2vss: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("sam2vss: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code or 0


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog="sam2vss",
        description="Online video semantic segmentation with SAM 2.",
        epilog="Every command has its own --help, with examples.",
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    add_run(commands)
    add_evaluate(commands)
    add_models(commands)
    add_train(commands)
    add_bench(commands)
    return parser


# --- sam2vss run -------------------------------------------------------------------------------


def add_run(commands: Any) -> None:
    """Declare `sam2vss run`."""
    parser = add_command(
        commands,
        "run",
        usage="VIDEO|FOLDER --out DIR [option ...]",
        help_="segment a video or a folder of images",
        description=(
            "Segment a video, or a folder of images in the order of their names, frame by frame\n"
            "as the node does, and write into DIR:\n"
            "  labels/000000.png ...  class id per pixel (8 bits; 16 where the classes need them)\n"
            "  overlay.mp4            the video with classes, outlines and track ids drawn on it\n"
            "  objects.jsonl          one line per frame: its objects with ids, classes and boxes"
        ),
        examples=(
            "  sam2vss run street.mp4 --out results\n"
            "  sam2vss run frames/ --rate 15 --out results --mode classify --max-objects 32\n"
            "  sam2vss run street.mp4 --out results --model sam2.1_hiera_tiny --device cuda"
        ),
    )
    parser.add_argument("input", metavar="VIDEO|FOLDER", help="what to segment")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="results go here")
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="frames per second of the input (default: the video's own; folders: 30)",
    )
    add_pipeline_options(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> None:
    from contextlib import closing

    from sam2vss_ros.evaluation.readers import open_frames
    from sam2vss_ros.evaluation.run import run

    source = open_frames(args.input, args.rate)
    with closing(build_pipeline(pipeline_options(args))) as pipeline:
        summary = run(pipeline, source, args.out)
        _print_run(summary, pipeline.catalog)
    print(f"\nwritten to {args.out}: labels/, overlay.mp4, objects.jsonl")


def _print_run(summary: RunSummary, catalog: ClassCatalog) -> None:
    print(f"\n{summary.frames} frames, {summary.fps:.1f} frames per second")
    print(f"objects: {len(summary.track_ids)} in all, at most {summary.objects_max} at a time")
    print(f"\n{'stage':<12}{'mean ms':>9}{'worst ms':>10}")
    for stage, spent in summary.timings_ms.items():
        print(f"{stage:<12}{sum(spent) / summary.frames:>9.1f}{max(spent):>10.1f}")
    names = {c.id: c.name for c in catalog.classes}
    total = summary.pixels_by_id.total()
    print(f"\n{'class':<24}{'% of pixels':>12}")
    for id_, pixels in summary.pixels_by_id.most_common():
        print(f"{names.get(id_, 'unlabelled'):<24}{100 * pixels / total:>12.1f}")


# --- sam2vss evaluate --------------------------------------------------------------------------


def add_evaluate(commands: Any) -> None:
    """Declare `sam2vss evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        usage="--images DIR --labels DIR --classes NAME [--json FILE] [option ...]",
        help_="score the pipeline on labelled image streams",
        description=(
            "Run the pipeline over labelled images, in the order of their names, and print its\n"
            "mIoU. Images and label images are joined by their names without suffix; names that\n"
            "agree up to the first `_` are one stream, and nothing is remembered from one stream\n"
            "to the next. Void pixels are not scored; the mean is over the classes that occur in\n"
            "the labels, from one confusion matrix over all frames (the rule of VSPW)."
        ),
        examples=(
            "  sam2vss evaluate --images val/images --labels val/labels --classes camvid\n"
            "  sam2vss evaluate --images val/images --labels val/labels --classes camvid \\\n"
            "      --mode refine --json refine.json"
        ),
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="the frames")
    parser.add_argument(
        "--labels", required=True, type=Path, metavar="DIR", help="label images: one id per pixel"
    )
    parser.add_argument(
        "--classes",
        required=True,
        metavar="NAME|YAML",
        dest="truth",
        help="what the ids of the labels mean: a class file, or the name of one (camvid)",
    )
    add_json_option(parser)
    parser.add_argument(
        "--rate", type=float, default=30.0, metavar="HZ", help="frames per second (default 30)"
    )
    add_pipeline_options(parser, without=["classes"])
    parser.set_defaults(command=_evaluate)


def _evaluate(args: argparse.Namespace) -> None:
    from contextlib import closing

    from sam2vss_ros.evaluation.evaluate import evaluate, find_streams
    from sam2vss_ros.evaluation.readers import InputError
    from sam2vss_ros.semantics.catalog import load_catalog

    try:
        truth = load_catalog(args.truth)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"classes: {error}") from error
    if not args.rate > 0:
        raise InputError(f"rate: {args.rate} is not a positive number of frames per second")
    check_json(args.json)
    streams = find_streams(args.images, args.labels)
    with closing(build_pipeline(pipeline_options(args))) as pipeline:
        result = evaluate(pipeline, streams, truth, args.rate)
        config = pipeline.config
    _print_evaluation(result)
    write_json(args.json, {**result.as_json(), "model": config.model, "mode": config.mode})


def _print_evaluation(result: Evaluation) -> None:
    matrix = result.matrix
    truth = matrix.truth_pixels
    print(f"\n{'class':<24}{'IoU %':>8}{'% of pixels':>13}")
    for name, iou, pixels in zip(matrix.names, matrix.per_class_iou(), truth, strict=True):
        shown = f"{100 * iou:>8.1f}" if pixels else f"{'-':>8}"
        print(f"{name:<24}{shown}{100 * pixels / truth.sum():>13.1f}")
    print(f"{'mean':<24}{100 * matrix.miou():>8.1f}")
    print(
        f"\npixel accuracy {100 * matrix.pixel_accuracy():.1f} %; {result.frames_scored} of "
        f"{result.frames} frames scored, {result.streams} streams, {result.fps:.1f} frames/s"
    )
    for id_, pixels in sorted(matrix.foreign_pixels.items()):
        print(
            f"not scored: {pixels} pixels with id {id_}, which is no class of {matrix.truth.name}"
        )


# --- sam2vss models ----------------------------------------------------------------------------


def add_models(commands: Any) -> None:
    """Declare `sam2vss models`."""
    parser = add_command(
        commands,
        "models",
        usage="[--fetch NAME]",
        help_="list the models, and fetch their weights",
        description=(
            "List the models, what is on this machine, and how to get the rest. Weights of Meta's\n"
            "models (.pt) are looked for in $SAM2VSS_CHECKPOINTS, ~/.cache/sam2vss_ros,\n"
            "./checkpoints and the Hugging Face cache."
        ),
        examples="  sam2vss models\n  sam2vss models --fetch sam2.1_hiera_tiny",
    )
    parser.add_argument("--fetch", metavar="NAME", help="fetch the weights of this model")
    parser.set_defaults(command=_models)


def _models(args: argparse.Namespace) -> None:
    from sam2vss_ros.evaluation.readers import InputError
    from sam2vss_ros.sam2 import models

    if args.fetch is not None:
        try:
            card = models.model_card(args.fetch)
            path = models.find_weights(card) or models.fetch_weights(card)
        except (ValueError, models.ModelUnavailableError) as error:
            raise InputError(str(error)) from error
        print(f"{card.name}: {path}")
        return
    print(f"{'model':<24}{'parameters':>12}{'input':>7}  {'discovery':<11}weights")
    for status in models.known_models():
        card = status.card
        weights = status.path or (f"to get them: {status.fetch}" if status.fetch else "missing")
        print(
            f"{card.name:<24}{card.parameters / 1e6:>10.1f} M{card.image_size:>7}  "
            f"{card.discovery:<11}{weights}"
        )


# --- sam2vss train -----------------------------------------------------------------------------


def add_train(commands: Any) -> None:
    """Declare `sam2vss train nano` and `sam2vss train semantics`."""
    parser = add_command(
        commands,
        "train",
        usage="nano|semantics ...",
        help_="train the embedded SAM 2, or classes for any SAM 2",
        description=(
            "nano       the embedded small SAM 2, on procedural video and labelled images\n"
            "semantics  the dense head and the mask classifier, on the frozen features of a SAM 2"
        ),
        examples=(
            "  sam2vss train nano --data camvid/train --out nano.safetensors\n"
            "  sam2vss train semantics --data camvid/train --out camvid.safetensors\n"
            "  sam2vss train semantics --help"
        ),
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, parser_class=Parser)
    nano = add_command(
        kinds,
        "nano",
        usage="--data DIR --out FILE [option ...]",
        help_="the embedded small SAM 2",
        parent="sam2vss train",
        description=(
            "Train nano on procedural video and on DIR/images with DIR/labels. Checkpoints and\n"
            "the log lie in FILE's name with .run; --resume goes on from the last checkpoint."
        ),
        examples="  sam2vss train nano --data camvid/train --out nano.safetensors --resume",
    )
    nano.set_defaults(command=_train_nano)
    semantics = add_command(
        kinds,
        "semantics",
        usage="--data DIR --out FILE [option ...]",
        help_="dense head and mask classifier for a SAM 2",
        parent="sam2vss train",
        description=(
            "Train the classes on DIR/images with DIR/labels (8-bit ids), on the features of a\n"
            "SAM 2 that itself stays as it is. FILE is what the node's parameter `semantics`\n"
            "takes. Checkpoints and the log lie in FILE's name with .run."
        ),
        examples=(
            "  sam2vss train semantics --data camvid/train --out camvid.safetensors\n"
            "  sam2vss train semantics --data yard --classes yard.yaml \\\n"
            "      --model sam2.1_hiera_tiny --device cuda --out yard.safetensors"
        ),
    )
    semantics.add_argument("--model", default="nano", help="SAM 2 to read features of")
    semantics.add_argument("--checkpoint", default="", help="weights of the model")
    semantics.add_argument(
        "--image-size", type=int, default=0, help="side of its input, 0: its own"
    )
    semantics.add_argument("--steps", type=int, default=1000, help="training steps (default 1000)")
    semantics.add_argument(
        "--holdout",
        type=int,
        default=10,
        metavar="N",
        help="keep every Nth image for the report at the end; 0 trains on all (default 10)",
    )
    semantics.set_defaults(command=_train_semantics)
    for kind in (nano, semantics):
        kind.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
        kind.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
        kind.add_argument("--classes", default="camvid", help="class file or its shipped name")
        kind.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        kind.add_argument("--seed", type=int, default=0, help="(default 0)")
        kind.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def _train_nano(args: argparse.Namespace) -> None:
    from sam2vss_ros.evaluation.readers import InputError
    from sam2vss_ros.sam2.models import load_model, resolve_device
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.nano import save_nano, train_nano
    from sam2vss_ros.training.score import score_sam2

    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog)
        network = train_nano(
            stills,
            catalog,
            args.out.with_suffix(".run"),
            seed=args.seed,
            resume=args.resume,
            device=str(resolve_device(args.device)),
        )
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    save_nano(network, args.out)
    scores = score_sam2(load_model("nano", str(args.out), args.device), clips=20, frames=16)
    print(f"\n{args.out}, on 20 held-out procedural clips of 16 frames:")
    for name, value in scores.items():
        print(f"  {name:<12}{value:.3f}")


def _train_semantics(args: argparse.Namespace) -> None:
    from sam2vss_ros.evaluation.readers import InputError
    from sam2vss_ros.sam2.models import ModelUnavailableError, load_model
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.semantics.model import save_semantics
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.semantics import dense_score, train_semantics

    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog)
        held_out = stills[:: args.holdout] if args.holdout else []
        used = [s for i, s in enumerate(stills) if not args.holdout or i % args.holdout]
        model = load_model(args.model, args.checkpoint, args.device, image_size=args.image_size)
        semantics = train_semantics(
            model,
            used,
            catalog,
            args.out.with_suffix(".run"),
            steps=args.steps,
            seed=args.seed,
            resume=args.resume,
        )
    except (ValueError, OSError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    card = {"images": len(used), "steps": args.steps, "seed": args.seed}
    save_semantics(semantics, args.out, card)
    print(f"\nwrote {args.out}, trained on {len(used)} images")
    if held_out:
        matrix = dense_score(model, semantics, held_out)
        print(f"dense head alone on {len(held_out)} held-out images: mIoU {matrix.miou():.3f}")
        for name, iou in zip(matrix.names, matrix.per_class_iou(), strict=True):
            print(f"  {name:<24}{100 * iou:>6.1f}")


if __name__ == "__main__":
    sys.exit(main())
