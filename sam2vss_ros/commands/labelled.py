"""What commands that read labelled images share: how labels are found, turned and understood."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sam2vss_ros.config import MOST_PIXELS

if TYPE_CHECKING:
    import argparse

    from sam2vss_ros.io.label_files import LabelRules
    from sam2vss_ros.semantics.catalog import ClassCatalog


def add_label_options(parser: Any) -> None:
    """Declare the options that `label_rules` reads, on a parser or a group of one."""
    parser.add_argument(
        "--image-suffix",
        default="",
        metavar="END",
        help="end of the images' names that is no part of them, such as _leftImg8bit or .jpg; "
        "other files are left out (default: found where all have the same)",
    )
    parser.add_argument(
        "--label-suffix",
        default="",
        metavar="END",
        help="likewise of the labels, such as _gtFine_labelTrainIds",
    )
    parser.add_argument(
        "--label-orientation",
        choices=("auto", "shown", "stored"),
        default="auto",
        help="labels of images with an EXIF orientation belong to the image as it is shown, or as "
        "it is stored (default: whichever they fit by size)",
    )


def label_rules(args: argparse.Namespace, catalog: ClassCatalog | None = None) -> LabelRules:
    """The rules that were given; `catalog` says what ids and colours mean."""
    from sam2vss_ros.io.label_files import LabelRules

    return LabelRules(
        catalog,
        args.image_suffix,
        args.label_suffix,
        args.label_orientation,
        getattr(args, "max_image_pixels", MOST_PIXELS),  # of commands that run the pipeline
    )


def print_notes(notes: Iterable[str]) -> None:
    """Say under the figures why they are to be doubted."""
    for note in notes:
        print(f"sam2vss: doubtful: {note}", file=sys.stderr)
