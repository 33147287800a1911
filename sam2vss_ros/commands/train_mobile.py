"""`sam2vss train keys`, `outline`, `decoder` and `presence`: the trained parts of the tracker
mobile."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import add_command, add_overwrite_option, check_weights
from sam2vss_ros.commands.labelled import add_label_options, label_rules
from sam2vss_ros.errors import InputError

KEYS_STEPS = 6000
"""Of two pairs of views each."""

OUTLINE_STEPS = 1200
"""Of two pictures with six prompts each."""

DECODER_STEPS = 4000
"""Of 48 samples each."""

PRESENCE_STEPS = 700
"""Of 512 samples each; more fit the clips, not their likes."""


def add_train_mobile(kinds: Any) -> None:
    """Declare `sam2vss train keys`, `outline`, `decoder` and `presence`."""
    keys = add_command(
        kinds,
        "keys",
        usage="--data DIR --out FILE [option ...]",
        help_="what frames are compared by",
        parent="sam2vss train",
        description=(
            "Train the keys by which mobile follows objects, on its frozen trunk: on warped\n"
            "views of DIR/images with DIR/labels and of the frames of videos, across which pasted\n"
            f"things move. {RUNS}"
        ),
        examples=(
            "  sam2vss train keys --data camvid/train --videos clips --out mobile_keys.safetensors"
        ),
    )
    _add_options(keys, KEYS_STEPS)
    keys.set_defaults(command=_train_keys)
    outline = add_command(
        kinds,
        "outline",
        usage="--data DIR --out FILE [option ...]",
        help_="what finds a thing by a click",
        parent="sam2vss train",
        description=(
            "Train the network that turns points and boxes into masks, on mobile's frozen trunk:\n"
            "on DIR/images with DIR/labels, and on things pasted into them and into the frames of\n"
            f"videos. {RUNS}"
        ),
        examples=(
            "  sam2vss train outline --data camvid/train --videos clips \\\n"
            "      --out mobile_outline.safetensors"
        ),
    )
    _add_options(outline, OUTLINE_STEPS)
    outline.set_defaults(command=_train_outline)
    decoder = add_command(
        kinds,
        "decoder",
        usage="--data DIR --out FILE [option ...]",
        help_="what corrects the masks of followed things",
        parent="sam2vss train",
        description=(
            "Train the network that looks at the image to correct what mobile's memory finds: on\n"
            "clips of things that move, bend, leave and return before others of their kind. They\n"
            "are cut from DIR/images with DIR/labels or made up, and move on stills and videos.\n"
            "Follow them with the keys you will use: train those first.\n"
            f"{RUNS}"
        ),
        examples=(
            "  sam2vss train decoder --data camvid/train --videos clips \\\n"
            "      --out mobile_decoder.safetensors"
        ),
    )
    _add_options(decoder, DECODER_STEPS)
    decoder.set_defaults(command=_train_decoder)
    presence = add_command(
        kinds,
        "presence",
        usage="--data DIR --out FILE [option ...]",
        help_="what tells whether an object is there",
        parent="sam2vss train",
        description=(
            "Train the small network by which mobile knows that an object is gone, or back, on\n"
            "clips whose things leave and return: drawn ones, and things of DIR/images with\n"
            "DIR/labels pasted on them and on frames of videos. Samples of each clip lie in\n"
            "FILE's name with .run; --resume goes on after the last clip."
        ),
        examples="  sam2vss train presence --data camvid/train --out mobile_presence.safetensors",
    )
    _add_options(presence, PRESENCE_STEPS)
    presence.set_defaults(command=_train_presence)


RUNS = (
    "Checkpoints, log and curves lie in FILE's name with .run; --resume goes\n"
    "on from the last checkpoint, also with another number of steps."
)


def _add_options(parser: argparse.ArgumentParser, steps: int) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="labelled images")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors")
    parser.add_argument(
        "--videos", type=Path, metavar="DIR", help=".mp4 files, seen as backgrounds"
    )
    parser.add_argument("--classes", default="camvid", help="class file or its shipped name")
    add_label_options(parser)
    parser.add_argument("--steps", type=int, default=steps, help=f"(default {steps})")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add_overwrite_option(parser)


def _train_keys(args: argparse.Namespace) -> None:
    from sam2vss_ros.training.keys import train_keys

    _train(args, train_keys)


def _train_outline(args: argparse.Namespace) -> None:
    from sam2vss_ros.training.outline import train_outline

    _train(args, train_outline)


def _train_decoder(args: argparse.Namespace) -> None:
    from sam2vss_ros.training.decoder import train_decoder

    _train(args, train_decoder)


def _train_presence(args: argparse.Namespace) -> None:
    from sam2vss_ros.training.presence import train_presence

    _train(args, train_presence)


def _train(args: argparse.Namespace, train: Any) -> None:
    """Run one of the trainings, such as `train_keys`, as asked, and save what it returns."""
    from sam2vss_ros.affinity.model import load_affinity_model
    from sam2vss_ros.semantics.catalog import load_catalog
    from sam2vss_ros.semantics.weights_file import save_weights
    from sam2vss_ros.training.data import load_stills
    from sam2vss_ros.training.pasted import Pictures

    if args.steps < 1:
        raise InputError(f"steps: {args.steps} is not positive")
    check_weights(args.out, args.overwrite)
    if args.videos is not None and not args.videos.is_dir():
        raise InputError(f"videos: {args.videos} is not a folder")
    try:
        catalog = load_catalog(args.classes)
        stills = load_stills(args.data, catalog, label_rules(args))
        pictures = Pictures.collect(stills, catalog, args.videos)
        network = train(
            pictures,
            load_affinity_model("mobile", device=args.device),
            args.out.with_suffix(".run"),
            steps=args.steps,
            seed=args.seed,
            resume=args.resume,
        )
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    save_weights(args.out, network.state_dict())
    print(f"\nwrote {args.out}: {args.steps} steps, {len(pictures.stills)} images")
