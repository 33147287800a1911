"""`sam2vss export`: the embedded model for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import (
    Parser,
    add_command,
    add_overwrite_option,
    add_pipeline_options,
    parse_size,
    pipeline_options,
)
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError, ModelUnavailableError
from sam2vss_ros.options import options_of

TAKEN = ("model", "semantics", "image_size")
"""Options of the pipeline that say what is exported."""

CAMERA = "1280x720"


def add_export(commands: Any) -> None:
    """Declare `sam2vss export` and its formats."""
    parser = add_command(
        commands,
        "export",
        usage="onnx ...",
        help_="write the embedded model as ONNX, for TensorRT and others",
        description="onnx  the networks of the model mobile, a file each",
        examples=("  sam2vss export onnx --out onnx --size 1280x720\n  sam2vss export onnx --help"),
    )
    kinds = parser.add_subparsers(
        title="format",
        metavar="FORMAT",
        required=True,
        parser_class=Parser,
        prog="sam2vss export",
    )
    _add_onnx(kinds)


def _add_onnx(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "onnx",
        usage="--out DIR [--size WxH] [option ...]",
        help_="ONNX files, one for each network",
        parent="sam2vss export",
        description=(
            "Write the networks of the embedded model `mobile` into DIR, in float32, for images\n"
            "of one size, for TensorRT, onnxruntime, OpenVINO and others:\n"
            "  trunk.onnx    image -> fine, middle, coarse (features), keys, fine_keys (what\n"
            "                objects are followed by)\n"
            "  head.onnx     fine, middle, coarse -> logits (of the classes), hidden, middles,\n"
            "                likeness\n"
            "  outline.onnx  fine, middle, coarse, image, points, labels, box -> masks, contrast\n"
            "                (what a click or a box means)\n"
            "The image is RGB, (1, 3, height, width) floats from 0 to 255, squashed to the size\n"
            "that is printed. The metadata of a file say what its tensors are, and the classes.\n"
            "Each is run by onnxruntime, where that is installed, on a drawn street: the largest\n"
            "difference from PyTorch is printed. What follows objects by the keys is no network\n"
            "and stays here.\n"
            'It needs pip install "sam2vss_ros[export]".'
        ),
        examples=(
            "  sam2vss export onnx --out onnx\n"
            "  sam2vss export onnx --out onnx --size 640x480 --semantics yard.safetensors\n"
            "  trtexec --onnx=onnx/trunk.onnx --saveEngine=trunk.engine --fp16"
        ),
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the files go here")
    parser.add_argument(
        "--size",
        default=CAMERA,
        metavar="WxH",
        help=f"size in pixels of the camera's images (default {CAMERA}); the networks' input has "
        "its aspect",
    )
    add_overwrite_option(parser)
    others = [name for name in options_of(PipelineConfig) if name not in TAKEN]
    add_pipeline_options(parser, without=others)
    parser.set_defaults(command=_export_onnx)


def _export_onnx(args: argparse.Namespace) -> None:
    from sam2vss_ros.export.onnx_files import (
        NAMES,
        check_export,
        largest_difference,
        onnx_bytes,
    )
    from sam2vss_ros.export.stages import load_stages
    from sam2vss_ros.io.outputs import staged, write_bytes
    from sam2vss_ros.sizes import LEAST_SIDE, MOST_ASPECT, is_odd

    width, height = parse_size(args.size)
    if is_odd(height, width):
        raise InputError(
            f"size: {args.size} is no camera's: sides of {LEAST_SIDE} pixels at least, the longer "
            f"one at most {MOST_ASPECT} times the other"
        )
    try:
        config = PipelineConfig.from_mapping(pipeline_options(args))
        check_export(args.out, args.overwrite)
        camera = height, width
        stages = load_stages(config.model, camera, config.semantics, config.image_size)
    except (ValueError, TypeError, FileNotFoundError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    about = stages[0].about
    print(f"{about['model']} for a camera of {args.size}: images of {about['input_size']}\n")
    print(f"{'file':<14}{'MB':>6}{'largest difference':>20}")
    with staged(args.out, NAMES) as stage:
        for network, name in zip(stages, NAMES, strict=True):
            content = onnx_bytes(network)
            difference = largest_difference(network, content)
            shown = "not checked" if difference is None else f"{difference:.1e}"
            print(f"{name:<14}{len(content) / 1e6:>6.1f}{shown:>20}")
            write_bytes(stage.folder / name, content)
    if difference is None:
        print("\nnot checked: onnxruntime is not installed (pip install onnxruntime)")
    print(f"\nwritten to {args.out}: {', '.join(NAMES)}")
