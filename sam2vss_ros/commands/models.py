"""`sam2vss models`: what there is, and fetching it."""

from __future__ import annotations

import argparse
from typing import Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.errors import InputError, ModelUnavailableError


def add_models(commands: Any) -> None:
    """Declare `sam2vss models`."""
    parser = add_command(
        commands,
        "models",
        usage="[--fetch NAME]",
        help_="list the models, and fetch their weights",
        description=(
            "List the models, what is on this machine, and how to get the rest. Weights of Meta's\n"
            "models (.pt) are looked for in $SAM2VSS_CHECKPOINTS, ~/.cache/sam2vss_ros,\n"
            "./checkpoints and the Hugging Face cache."
        ),
        examples="  sam2vss models\n  sam2vss models --fetch sam2.1_hiera_tiny",
    )
    parser.add_argument("--fetch", metavar="NAME", help="fetch the weights of this model")
    parser.set_defaults(command=_models)


def _models(args: argparse.Namespace) -> None:
    from sam2vss_ros.sam2.cards import model_card
    from sam2vss_ros.sam2.weights import fetch_weights, find_weights, known_models

    if args.fetch is not None:
        try:
            card = model_card(args.fetch)
            path = find_weights(card) or fetch_weights(card)
        except (ValueError, ModelUnavailableError) as error:
            raise InputError(str(error)) from error
        print(f"{card.name}: {path}")
        return
    print(
        f"{'model':<24}{'parameters':>12}{'input':>7}  {'discovery':<11}{'licence':<16}"
        f"{'source':<39}weights"
    )
    for status in known_models():
        card = status.card
        weights = status.path or (f"to get them: {status.fetch}" if status.fetch else "missing")
        print(
            f"{card.name:<24}{card.parameters / 1e6:>10.1f} M{card.image_size:>7}  "
            f"{card.discovery:<11}{card.licence:<16}{card.source:<39}{weights}"
        )
