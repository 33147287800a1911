"""`sam2vss train nano`, `sam2vss train semantics` and `sam2vss train network`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import Parser, add_command
from sam2vss_ros.commands.train_network import add_train_network


def add_train(commands: Any) -> None:
    """Declare `sam2vss train` and what it trains."""
    parser = add_command(
        commands,
        "train",
        usage="nano|semantics|network ...",
        help_="train the embedded networks, or classes for any SAM 2",
        description=(
            "nano       the embedded small SAM 2, on procedural video and labelled images\n"
            "semantics  the dense head and the mask classifier, on the frozen features of a SAM 2\n"
            "network    the embedded segmentation network, on labelled images"
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
    add_train_network(kinds)
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
