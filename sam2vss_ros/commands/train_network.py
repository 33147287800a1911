"""`sam2vss train network`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.errors import InputError


def add_train_network(kinds: Any) -> None:
    """Declare `sam2vss train network`."""
    parser = add_command(
        kinds,
        "network",
        usage="--data DIR --out FILE [option ...]",
        help_="the embedded segmentation network",
        parent="sam2vss train",
        description=(
            "Train the small segmentation network, from random weights, on DIR/images with\n"
            "DIR/labels (class ids, of 8 or 16 bits or of a palette), joined by their names.\n"
            "FILE is what the option `network` takes. Checkpoints, log and curves lie in FILE's\n"
            "name with .run; --resume goes on from the last checkpoint, also with another number\n"
            "of steps."
        ),
        examples=(
            "  sam2vss train network --data camvid/train --out street.safetensors\n"
            "  sam2vss train network --data yard --classes yard.yaml --steps 2000 \\\n"
            "      --out yard.safetensors --resume"
        ),
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
    parser.add_argument("--classes", default="camvid", help="class file or its shipped name")
    parser.add_argument("--steps", type=int, default=9000, help="of eight views (default 9000)")
    parser.add_argument(
        "--shortest",
        type=int,
        default=352,
        help="pixels of the input's shorter side (default 352)",
    )
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.06,
        metavar="SHARE",
        help="keep the end of each recording for temperature and report (default 0.06; 0: none)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.set_defaults(command=_train_network)


def _train_network(args: argparse.Namespace) -> None:
    from sam2vss_ros.sam2.build import resolve_device
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.semantics.networks.embedded import NetworkCard, save_embedded
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.network import (
        calibrated,
        loss_weights,
        split_off,
        train_network,
    )

    _check_options(args)
    try:
        device = resolve_device(args.device)
        catalog = load_catalog(args.classes)
        used, kept = split_off(load_stills(args.data, catalog), args.holdout)
        network = train_network(
            used,
            catalog,
            args.out.with_suffix(".run"),
            steps=args.steps,
            seed=args.seed,
            resume=args.resume,
            device=device,
        )
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    how = {"images": len(used), "steps": args.steps, "seed": args.seed}
    card = NetworkCard(catalog, args.shortest, 1.0, how)
    if kept:
        weights = loss_weights(used, catalog)
        network, card, score = calibrated(network, card, weights, kept, device)
    save_embedded(network, card, args.out)
    print(f"\nwrote {args.out}, trained on {len(used)} images")
    if kept:
        matrix = score.matrix
        print(
            f"on {len(kept)} held-out images: mIoU {matrix.miou():.3f}, calibration error "
            f"{score.calibration_error():.3f} at temperature {card.temperature:.2f}"
        )
        for name, iou in zip(matrix.names, matrix.per_class_iou(), strict=True):
            print(f"  {name:<24}{100 * iou:>6.1f}")


def _check_options(args: argparse.Namespace) -> None:
    if not 0 <= args.holdout < 1:
        raise InputError(f"holdout: {args.holdout} is not a share from 0 to below 1")
    for name in ("steps", "shortest"):
        if getattr(args, name) < 1:
            raise InputError(f"{name}: {getattr(args, name)} is not positive")
    if not args.out.absolute().parent.is_dir():
        raise InputError(f"out: the folder of {args.out} does not exist")
