"""`sam2vss models`: what there is, and fetching it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from sam2vss_ros.sam2.weights import ModelStatus


def add_models(commands: Any) -> None:
    """Declare `sam2vss models`."""
    parser = add_command(
        commands,
        "models",
        usage="[MODEL ...] [--fetch NAME]",
        help_="list the models, and fetch their weights",
        description=(
            "List the models, what is on this machine, and how to get the rest; or those named,\n"
            "which may be YAML files of your own SAM 2: these are loaded, to see that they do.\n"
            "Weights of Meta's models (.pt) are looked for in $SAM2VSS_CHECKPOINTS,\n"
            "~/.cache/sam2vss_ros, ./checkpoints and the Hugging Face cache. --fetch is the one\n"
            "thing that asks the network; what it brings of Meta has the size and SHA-256 that\n"
            "this package knows. It also takes a network of transformers, or a text model for\n"
            "class names in words, by its name on the Hugging Face hub."
        ),
        examples=(
            "  sam2vss models\n"
            "  sam2vss models mine.yaml\n"
            "  sam2vss models --fetch sam2.1_hiera_tiny\n"
            "  sam2vss models --fetch nvidia/segformer-b0-finetuned-cityscapes-1024-1024\n"
            "  sam2vss models --fetch google/tipsv2-b14"
        ),
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="list these alone")
    parser.add_argument("--fetch", metavar="NAME", help="fetch this model, network or text model")
    parser.set_defaults(command=_models)


def _models(args: argparse.Namespace) -> None:
    from sam2vss_ros.sam2.weights import known_models

    if args.fetch is not None:
        _fetch(args.fetch)
        return
    listed = [_named(name) for name in args.models] or known_models()
    width = max(len(status.card.name) for status in listed) + 2
    print(
        f"{'model':<{width}}{'parameters':>12}{'input':>7}  {'discovery':<11}{'licence':<16}"
        f"{'source':<39}weights"
    )
    for status in listed:
        card = status.card
        weights = status.path or (f"to get them: {status.fetch}" if status.fetch else "missing")
        print(
            f"{card.name:<{width}}{card.parameters / 1e6:>10.1f} M{card.image_size:>7}  "
            f"{card.discovery:<11}{card.licence:<16}{card.source:<39}{weights}"
        )


def _named(name: str) -> ModelStatus:
    """What there is of a model; a YAML file's is built, with its weights where they are there."""
    from sam2vss_ros.sam2.build import load_model, untrained_model
    from sam2vss_ros.sam2.cards import model_card
    from sam2vss_ros.sam2.weights import model_status

    try:
        status = model_status(model_card(name))
        if status.card.model_file is None:
            return status
        load = untrained_model if status.path is None else load_model
        network = load(name, device="cpu").network
    except (ValueError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
    parameters = sum(weights.numel() for weights in network.parameters())
    return replace(status, card=replace(status.card, parameters=parameters))


def _fetch(name: str) -> None:
    """Fetch the weights of a model, or a network or text model by its name on the Hugging Face
    hub."""
    import torch

    from sam2vss_ros.sam2.cards import CARDS, model_card
    from sam2vss_ros.sam2.fetching import fetch_weights
    from sam2vss_ros.semantics.networks.loading import HUB_NAME
    from sam2vss_ros.semantics.networks.pretrained import load_pretrained
    from sam2vss_ros.semantics.vocabulary.loading import is_text_model, load_text_model

    try:
        if name not in CARDS and HUB_NAME.fullmatch(name):
            cpu = torch.device("cpu")
            if is_text_model(name, fetch=True):
                load_text_model(name, cpu, fetch=True)
                print(f"{name}: ready for the option text_model")
                return
            network = load_pretrained(name, cpu, fetch=True)
            print(f"{name}: {len(network.catalog)} classes, ready for the option network")
        else:
            card = model_card(name)
            print(f"{card.name}: {fetch_weights(card)}")
    except (ValueError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error
