"""`sam2vss train`: semantics, keys, outline, presence and nano."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import Parser, add_command, add_overwrite_option, check_weights
from sam2vss_ros.commands.labelled import add_label_options, label_rules
from sam2vss_ros.commands.train_mobile import add_train_mobile
from sam2vss_ros.commands.train_semantics import add_train_semantics
from sam2vss_ros.errors import InputError


def add_train(commands: Any) -> None:
    """Declare `sam2vss train` and what it trains."""
    parser = add_command(
        commands,
        "train",
        usage="semantics|keys|outline|presence|nano ...",
        help_="train your own classes, or the small SAM 2",
        description=(
            "semantics  your own classes, on labelled images\n"
            "keys       what frames are compared by, on warped images and pasted things\n"
            "outline    what finds a thing by a click, on labelled images and pasted things\n"
            "presence   what tells whether an object is there, on clips whose things leave\n"
            "nano       the small SAM 2, on procedural video and labelled images"
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
    add_train_semantics(kinds)
    add_train_mobile(kinds)
    nano.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
    nano.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
    nano.add_argument("--classes", default="camvid", help="class file or its shipped name")
    add_label_options(nano)
    nano.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    nano.add_argument("--seed", type=int, default=0, help="(default 0)")
    nano.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add_overwrite_option(nano)


def _train_nano(args: argparse.Namespace) -> None:
    from sam2vss_ros.sam2.build import load_model, resolve_device
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.nano import save_nano, train_nano
    from sam2vss_ros.training.score import score_sam2

    check_weights(args.out, args.overwrite)
    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog, label_rules(args))
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
