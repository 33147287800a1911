"""`sam2vss train semantics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from sam2vss_ros.training.semantics import Examination


def add_train_semantics(kinds: Any) -> None:
    """Declare `sam2vss train semantics`."""
    parser = add_command(
        kinds,
        "semantics",
        usage="--data DIR --out FILE [option ...]",
        help_="dense head and mask classifier for a SAM 2",
        parent="sam2vss train",
        description=(
            "Train the classes on DIR/images with DIR/labels (class ids, of 8 or 16 bits or of a\n"
            "palette), joined by their names, on the features of a SAM 2 that itself stays as it\n"
            "is. FILE is what the node's parameter `semantics` takes. Features (up to 3 GB),\n"
            "checkpoints, the log and its curves lie in FILE's name with .run; --resume goes on\n"
            "from the last checkpoint."
        ),
        examples=(
            "  sam2vss train semantics --data camvid/train --out camvid.safetensors\n"
            "  sam2vss train semantics --data yard --classes yard.yaml \\\n"
            "      --model sam2.1_hiera_tiny --device cuda --out yard.safetensors"
        ),
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
    parser.add_argument("--classes", default="camvid", help="class file or its shipped name")
    parser.add_argument("--model", default="nano", help="SAM 2 to read features of")
    parser.add_argument("--checkpoint", default="", help="weights of the model")
    parser.add_argument("--image-size", type=int, default=0, help="side of its input, 0: its own")
    parser.add_argument(
        "--steps", type=int, default=2000, help="most training steps (default 2000)"
    )
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="keep the end of each recording to stop by, to calibrate on and for the report "
        "(default 0.1; 0 trains on all for all steps, uncalibrated)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.set_defaults(command=_train_semantics)


def _train_semantics(args: argparse.Namespace) -> None:
    from sam2vss_ros.sam2.build import load_model
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.semantics.model import save_semantics
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.network import split_off
    from sam2vss_ros.training.semantics import train_semantics

    if args.steps < 1:
        raise InputError(f"steps: {args.steps} is not a positive number")
    if not 0 <= args.holdout < 1:
        raise InputError(f"holdout: {args.holdout} is not a share from 0 to below 1")
    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog)
        kept = {still.name for still in split_off(stills, args.holdout)[1]}
        model = load_model(args.model, args.checkpoint, args.device, image_size=args.image_size)
        run = args.out.with_suffix(".run")
        semantics, found = train_semantics(
            model,
            stills,
            catalog,
            run,
            steps=args.steps,
            held_out={i for i, still in enumerate(stills) if still.name in kept},
            seed=args.seed,
            resume=args.resume,
        )
    except (ValueError, OSError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    card = {"images": len(stills) - len(kept), "steps": args.steps, "seed": args.seed}
    save_semantics(semantics, args.out, card)
    print(f"\nwrote {args.out}, trained on {card['images']} images; curves: {run / 'curves.png'}")
    if found is not None:
        _report(found, len(kept))


def _report(found: Examination, images: int) -> None:
    print(
        f"on {images} held-out images: dense head mIoU {found.dense.miou():.3f}, calibration error "
        f"{found.dense_error:.3f}; {found.masks} masks, {100 * found.masks_right:.1f} % right, "
        f"calibration error {found.masks_error:.3f}"
    )
    for name, iou in zip(found.dense.names, found.dense.per_class_iou(), strict=True):
        print(f"  {name:<24}{100 * iou:>6.1f}")
