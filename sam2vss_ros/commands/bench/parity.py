"""`sam2vss bench parity`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
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
    from sam2vss_ros.bench.parity import Parity


def add_parity(kinds: Any) -> None:
    """Declare `sam2vss bench parity`."""
    parser = add_command(
        kinds,
        "parity",
        usage="--video VIDEO [--objects N] [--frames F] [--add-at FRAME] [option ...]",
        help_="our masks against those of SAM 2's own video predictor, or of transformers",
        parent="sam2vss bench",
        description=(
            "Follow the same objects through the same frames with the exact engine and with\n"
            "SAM2VideoPredictor, in float32, and compare their masks at stride 4. Objects are\n"
            "those that discovery finds on the first frame; tiles of the image make up what it\n"
            "lacks. With --yardstick transformers the other side is its Sam2VideoModel or\n"
            "EdgeTamVideoModel, which know neither our code nor Meta's.\n\n"
            "Frames are read one by one, but upstream keeps what it saw on each: 1.3 MB per frame\n"
            "and object of Meta's models at 1024 px (750 frames of 16 objects in 16 GB).\n\n"
            "Ends with code 1 where the mean IoU is below 0.999."
        ),
        examples=(
            "  sam2vss bench parity --video street.mp4 --objects 8 --frames 40 --add-at 20\n"
            "  sam2vss bench parity --video street.mp4 --model sam2.1_hiera_tiny \\\n"
            "      --image-size 512 --device cuda --json parity.json"
        ),
    )
    add_material_options(parser)
    parser.add_argument(
        "--objects", type=int, default=4, metavar="N", help="how many (default 4; 1 to 256)"
    )
    parser.add_argument(
        "--frames", type=int, default=20, metavar="F", help="how many (default 20; 2 or more)"
    )
    parser.add_argument(
        "--add-at",
        type=int,
        default=0,
        metavar="FRAME",
        help="half of the objects come on this frame, found there (the first is 0)",
    )
    parser.add_argument(
        "--yardstick",
        choices=("upstream", "transformers"),
        help="what to compare with (default upstream; for edgetam transformers)",
    )
    parser.add_argument(
        "--rounded-memory",
        action="store_true",
        help="let the yardstick round memories to bfloat16 in its store, as it does by itself",
    )
    add_report(parser, _parity)


def _parity(args: argparse.Namespace) -> Report:
    from sam2vss_ros.bench.material import first_frames
    from sam2vss_ros.bench.parity import compare
    from sam2vss_ros.io.readers import open_frames

    _check(args)
    use_defaults(args)
    source = open_frames(args.video)
    images = first_frames(source, args.frames)
    (name,), (wanted,) = args.model, args.image_size
    discovery = make_discovery(args, name, [args.objects])
    model = load(args, name, wanted, "float32")
    size, late = model.network.image_size, args.objects // 2 if args.add_at else 0
    starting = {0: args.objects - late, args.add_at: late} if late else {0: args.objects}
    prompts = {
        t: discovery.prompts(image, args.objects, size)[0][-starting[t] :]
        for t, image in enumerate(first_frames(source, args.add_at + 1))
        if t in starting
    }
    use_threads(args.threads)
    frames = with_progress(images, args.frames, "parity")
    yardstick = args.yardstick or ("transformers" if model.card.edgetam else "upstream")
    try:
        result = compare(model, frames, prompts, not args.rounded_memory, yardstick)
    except ValueError as error:
        raise InputError(str(error)) from error
    title = (
        f"{name} at {size} px on {source.path.name}, exact engine against {yardstick}, "
        "float32"
        + (", random weights" if args.random_weights else "")
        + (", its memories rounded to bfloat16" if args.rounded_memory else "")
    )
    figures = {
        **asdict(result),
        "add_at": args.add_at,
        "model": name,
        "yardstick": yardstick,
        "image_size": size,
        "random_weights": args.random_weights,
        "rounded_memory": args.rounded_memory,
        "video": str(source.path),
    }
    return Report([title, _table(result)], figures, model.device, result.holds)


def _check(args: argparse.Namespace) -> None:
    if args.frames < 2:
        raise InputError(f"frames: {args.frames} are too few to follow anything; give 2 or more")
    if not 0 <= args.add_at < args.frames:
        raise InputError(f"add-at: frame {args.add_at} is not one of 0 to {args.frames - 1}")
    if args.add_at and args.objects < 2:
        raise InputError("add-at: takes 2 objects or more, half of them are added later")


def _table(result: Parity) -> Table:
    cells = {
        "objects": str(result.objects),
        "frames": str(result.frames),
        "seen": f"{result.seen:.0%}",
        "mean IoU": f"{result.mean_iou:.6f}",
        "least IoU": f"{result.min_iou:.6f}",
        "largest logit difference": f"{result.max_logit_diff:.2e}",
    }
    return Table(list(cells), [list(cells.values())])
