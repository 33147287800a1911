"""`sam2vss label`: many recorded bags again, with labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sam2vss_ros.commands.arguments import add_command, add_pipeline_options, pipeline_options
from sam2vss_ros.commands.bag import add_labelling_options, add_storage_option
from sam2vss_ros.commands.fleet import (
    add_fleet_options,
    facts,
    failures_told,
    find_stretches,
    open_executor,
    with_threads,
)
from sam2vss_ros.commands.labellers import PipelineTools
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.outputs import check_folder


def add_label(commands: Any) -> None:
    """Declare `sam2vss label`."""
    label = add_command(
        commands,
        "label",
        usage="--bags BAG [BAG ...] --out DIR [option ...]",
        help_="many recorded bags again, with labels, on many workers",
        description=(
            "Copy bags into a folder, each under its name, with the topics that\n"
            "`sam2vss bag label` adds to one: label_image, class_catalog, label_info, overlay.\n\n"
            "A bag takes its place when it is whole. The same command again goes on where it was\n"
            "stopped, and labels what has come since; what is done is known by the folder\n"
            ".sam2vss in that of the bags. Machines of a cluster have to share the folder."
        ),
        examples=(
            "  sam2vss label --bags 'bags/*' --out labelled\n"
            "  sam2vss label --bags 'bags/*' --stretch 60 --warm-up 5 --out labelled \\\n"
            "      --ray-address 10.0.0.1:6379 --gpus-per-worker 0.25 --model sam2.1_hiera_tiny"
        ),
    )
    label.add_argument(
        "--bags", required=True, nargs="+", metavar="BAG", help="bags, also by patterns: 'bags/*'"
    )
    label.add_argument("--out", required=True, type=Path, metavar="DIR", help="for labelled bags")
    add_labelling_options(label)
    add_storage_option(label)
    add_fleet_options(label)
    add_pipeline_options(label)
    label.set_defaults(command=_label)


def _label(args: argparse.Namespace) -> None:
    from sam2vss_ros.fleet.labelling import BagLabels, label_bags
    from sam2vss_ros.io.bag_labels import check_label_topics
    from sam2vss_ros.io.bags import Bag

    folder = args.out.expanduser().absolute()
    check_folder("out", folder)
    options = with_threads(pipeline_options(args))
    about = facts(options)
    stretches = find_stretches(args)
    for bag in stretches:
        check_label_topics(Bag(bag[0].bag), args.namespace)
    tools = PipelineTools(tuple(sorted(options.items())))
    bags = [
        BagLabels(bag, tools, about, folder, args.namespace, args.overlay, args.storage)
        for bag in stretches
    ]
    with open_executor(args, options) as executor:
        result, failures = label_bags(bags, executor, folder)
    done = sum(bag.out.exists() for bag in bags)
    print(f"\n{done} of {len(bags)} bags labelled, {result.frames} images, written to {folder}")
    if result.seconds:
        print(f"{result.frames / result.seconds:.1f} frames per second of a worker's own time")
    for reason, count in result.skipped.items():
        print(f"{count} skipped: {reason}")
    if failures:
        raise InputError(failures_told(failures))
