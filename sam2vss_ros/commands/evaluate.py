"""`sam2vss evaluate`: score the pipeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import (
    add_command,
    add_json_option,
    add_pipeline_options,
    build_pipeline,
    check_json,
    pipeline_options,
    write_json,
)

if TYPE_CHECKING:
    from sam2vss_ros.evaluation.evaluate import Evaluation


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

    from sam2vss_ros.evaluation.evaluate import PipelineLabeller, evaluate
    from sam2vss_ros.evaluation.readers import InputError, labelled_folder
    from sam2vss_ros.semantics.catalog import load_catalog

    try:
        truth = load_catalog(args.truth)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"classes: {error}") from error
    if not args.rate > 0:
        raise InputError(f"rate: {args.rate} is not a positive number of frames per second")
    check_json(args.json)
    streams = labelled_folder(args.images, args.labels, args.rate)
    with closing(build_pipeline(pipeline_options(args))) as pipeline:
        result = evaluate(PipelineLabeller(pipeline), streams, truth)
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
