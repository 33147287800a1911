"""The command line of scripts/demo."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2vss_ros.commands.arguments import parse_size
from sam2vss_ros.errors import InputError


def parse_arguments() -> argparse.Namespace:
    """The options of scripts/demo; ends the program where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Play a clip as a camera into the live node and record what it answers. "
        "Several clips are as many cameras, which start together and which one node serves; each "
        "is named after its file and leaves its results in a folder of that name.",
        epilog="examples: scripts/demo drive.mp4 -p mode:=refine -p max_objects:=8; "
        "two cameras: scripts/demo front.mp4 rear.mp4; "
        "four cameras, a node for each: scripts/demo --separate a.mp4 a.mp4 a.mp4 a.mp4",
    )
    parser.add_argument(
        "sources",
        nargs="*",
        type=Path,
        metavar="VIDEO|FOLDER|BAG",
        help="a video, a folder of images, or a ROS bag; several, also the same one again, are "
        "several cameras; default: a street drawn by the package",
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="default: demo_out")
    parser.add_argument(
        "--overwrite", action="store_true", help="also results that are not an earlier demo's"
    )
    parser.add_argument(
        "--size", type=size, default=(640, 480), metavar="WxH", help="the camera's (640x480)"
    )
    parser.add_argument("--rate", type=positive, default=30.0, help="camera images a second (30)")
    parser.add_argument(
        "--loop-seconds",
        type=positive,
        default=0.0,
        metavar="S",
        help="repeat the clip for S seconds and tell the node's memory every minute",
    )
    parser.add_argument(
        "--separate",
        action="store_true",
        help="several cameras: a node for each instead of one for all, to compare the two",
    )
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="a parameter of the node, as in config/vss.yaml; may be repeated",
    )
    options = parser.parse_intermixed_args()
    if options.separate and len(options.sources) < 2:
        parser.error("--separate starts a node for each of several cameras: give several sources")
    if any(parameter.startswith("cameras:=") for parameter in options.param):
        parser.error("cameras: the demo names them after its sources: give several sources")
    return options


def size(text: str) -> tuple[int, int]:
    """Parse a size like 640x480, as `sam2vss` does."""
    try:
        return parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> float:
    """Parse a number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return value
