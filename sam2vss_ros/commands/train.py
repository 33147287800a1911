"""`sam2vss train`: semantics, keys, outline and presence."""

from __future__ import annotations

from typing import Any

from sam2vss_ros.commands.arguments import Parser, add_command
from sam2vss_ros.commands.train_mobile import add_train_mobile
from sam2vss_ros.commands.train_semantics import add_train_semantics


def add_train(commands: Any) -> None:
    """Declare `sam2vss train` and what it trains."""
    parser = add_command(
        commands,
        "train",
        usage="semantics|keys|outline|presence ...",
        help_="train your own classes, or parts of the embedded model",
        description=(
            "semantics  your own classes, on labelled images\n"
            "keys       what frames are compared by, on warped images and pasted things\n"
            "outline    what finds a thing by a click, on labelled images and pasted things\n"
            "presence   what tells whether an object is there, on clips whose things leave"
        ),
        examples=(
            "  sam2vss train semantics --data camvid/train --out camvid.safetensors\n"
            "  sam2vss train semantics --help"
        ),
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True, parser_class=Parser)
    add_train_semantics(kinds)
    add_train_mobile(kinds)
