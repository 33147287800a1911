"""The frames, objects and networks of the benchmarks that compare engines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam2vss_ros.errors import InputError, ModelUnavailableError

if TYPE_CHECKING:
    from sam2vss_ros.bench.material import Discovery
    from sam2vss_ros.sam2.build import Sam2Model


DEFAULT_MODEL, DEFAULT_SIZE = "sam2.1_hiera_tiny", 512


def add_material_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Declare the options that `use_defaults`, `make_discovery`, `load` and `use_threads` read.

    several: models and sizes may be several; they are lists all the same.
    """
    count: str | int = "+" if several else 1
    parser.add_argument(
        "--video", required=True, metavar="VIDEO|FOLDER", help="the frames to follow objects in"
    )
    parser.add_argument(
        "--model",
        nargs=count,
        help=f"SAM 2 by its name, or its YAML file (default {DEFAULT_MODEL} at {DEFAULT_SIZE} "
        "pixels, with random weights where its own are not on this machine)",
    )
    parser.add_argument(
        "--image-size", nargs=count, type=int, help="side of the model's input (default: its own)"
    )
    parser.add_argument(
        "--checkpoint", default="", help="weights of the model, where not found by its name"
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="an untrained network, where the weights are not at hand",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads (default: all cores)"
    )


def use_defaults(args: argparse.Namespace) -> None:
    """Say what model is measured where the user does not."""
    from sam2vss_ros.sam2.cards import CARDS
    from sam2vss_ros.sam2.weights import find_weights

    if args.model is None:
        args.model = [DEFAULT_MODEL]
        args.image_size = args.image_size or [DEFAULT_SIZE]
        if not args.checkpoint and find_weights(CARDS[DEFAULT_MODEL]) is None:
            args.random_weights = True
    args.image_size = args.image_size or [0]


def make_discovery(args: argparse.Namespace, model: str, objects: Sequence[int]) -> Discovery:
    """What finds the objects. Raises InputError where their numbers or the threads do not do."""
    from sam2vss_ros.bench.material import Discovery

    if args.threads < 0:
        raise InputError(f"threads: {args.threads} is not a number of CPU threads; 0 takes all")
    for count in objects:
        if not 1 <= count <= 256:
            raise InputError(f"objects: {count} is not a number of objects from 1 to 256")
    return Discovery(model, args.checkpoint, args.device, args.random_weights)


def load(args: argparse.Namespace, model: str, image_size: int, precision: str) -> Sam2Model:
    """The network, untrained if so wanted. Raises InputError where there is none of that kind."""
    from sam2vss_ros.sam2.build import load_model, untrained_model

    try:
        if args.random_weights:
            return untrained_model(model, args.device, precision, image_size)
        return load_model(model, args.checkpoint, args.device, precision, image_size)
    except ModelUnavailableError as error:
        raise InputError(f"{error}; --random-weights does without, for speed alone") from error
    except ValueError as error:
        raise InputError(str(error)) from error


def use_threads(threads: int) -> None:
    """Set torch's CPU threads, 0: all. After discovery, whose pipeline takes as many as suit it."""
    from sam2vss_ros.threads import processors, use

    use(threads or processors())
