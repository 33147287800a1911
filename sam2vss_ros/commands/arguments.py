"""What the commands share: how they are declared, and the pipeline from their options."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sam2vss_ros.commands import BAD_INPUT
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import InputError, ModelUnavailableError, brief
from sam2vss_ros.io.outputs import check_file, check_folder, refuse_foreign, write_text
from sam2vss_ros.options import options_of, read_as
from sam2vss_ros.spelling import nearest

if TYPE_CHECKING:
    from sam2vss_ros.pipeline import VssPipeline

UNRECOGNISED = "unrecognized arguments:"
"""How argparse begins to speak of what no parser knows."""

FIGURES_KEYS = {"per_class_iou", "variants", "machine"}
"""What tells our figures, those of an evaluation or a benchmark, from other JSON: one of these."""

MOST_FIGURES = 1 << 26
"""Bytes; a larger file is none of ours."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, know misspelt options and say where help is."""

    def error(self, message: str) -> NoReturn:
        if message.startswith(UNRECOGNISED):
            flags = (word.partition("=")[0] for word in message.split() if word.startswith("--"))
            known = options_of(PipelineConfig)
            meant = [name for flag in flags if (name := nearest(flag.strip("-"), known))]
            if meant:
                message += f"; do you mean {', '.join(flag_of(name) for name in meant)}?"
        self.exit(BAD_INPUT, f"sam2vss: error: {message} (see {self.prog} --help)\n")


def add_command(
    commands: Any,
    name: str,
    usage: str,
    help_: str,
    description: str,
    examples: str,
    parent: str = "sam2vss",
) -> Parser:
    """Declare a command whose help begins with a short usage and ends with examples."""
    parser: Parser = commands.add_parser(
        name,
        usage=f"{parent} {name} {usage}",
        help=help_,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def flag_of(option: str) -> str:
    """How the command line spells an option of the pipeline."""
    return f"--{option.replace('_', '-')}"


def add_pipeline_options(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """Declare every option of `PipelineConfig` as a flag; `pipeline_options` reads them back."""
    group = parser.add_argument_group("options of the pipeline")
    for name, (default, option) in options_of(PipelineConfig).items():
        if name in without:
            continue
        kind = "LIST" if isinstance(default, tuple) else type(default).__name__.upper()
        value = ";".join(default) if isinstance(default, tuple) else default
        shown = "" if value == "" else f" (default {value})"
        group.add_argument(
            flag_of(name),
            dest=name,
            default=argparse.SUPPRESS,
            type=read_as(default),
            metavar="|".join([*option.choices, *(f"FILE{end}" for end in option.files[:1])])
            or kind,
            help=option.description.replace("%", "%%") + shown,
        )


def pipeline_options(args: argparse.Namespace, **fixed: object) -> dict[str, object]:
    """The options of `PipelineConfig` that were given on the command line, and `fixed` ones."""
    given = {
        name: value for name, value in vars(args).items() if name in options_of(PipelineConfig)
    }
    return given | fixed


def without_known_rate(options: dict[str, object], images: Path) -> dict[str, object]:
    """The options for images of which nobody has said how many a second they are: of a folder's
    every one is looked at, unless `carry` is given."""
    return {"carry": "off", **options} if images.is_dir() else options


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of the option `--size`. Raises InputError."""
    parts = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if parts is None:
        raise InputError(
            f"size: {brief(repr(text))} is not a width and a height in pixels, such as 768x576"
        )
    return int(parts[1]), int(parts[2])


def build_pipeline(options: dict[str, object]) -> VssPipeline:
    """Build the pipeline. Raises InputError with the reason where options or files do not do."""
    from sam2vss_ros.perception import Perception
    from sam2vss_ros.pipeline import VssPipeline

    if options.get("network") == "topic":
        raise InputError("network: topic is for the live node, where labels come with the images")
    try:
        config = PipelineConfig.from_mapping(options)
        return VssPipeline(Perception.load(config), config)
    except (ValueError, TypeError, FileNotFoundError, ModelUnavailableError) as error:
        raise InputError(str(error)) from error


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Declare `--json FILE` and `--overwrite`; `check_json` goes before the work, `write_json`
    after."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    add_overwrite_option(parser)


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Declare `--overwrite`."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace also what is not of an earlier run of this command",
    )


def check_weights(out: Path, overwrite: bool) -> None:
    """Raise InputError where weights and the folder of their training cannot be written, or where
    weights lie at `out` that no training with a folder beside has made."""
    check_file("out", out)
    run = out.with_suffix(".run")
    check_folder("out", run)
    if out.exists():
        refuse_foreign("out", out, run.is_dir(), overwrite)


def check_json(path: Path | None, overwrite: bool) -> None:
    """Raise InputError where a file for the figures cannot be written, or is somebody else's."""
    if path is not None:
        check_file("json", path)
        refuse_foreign("json", path, _is_figures(path), overwrite)


def _is_figures(path: Path) -> bool:
    """Whether nothing is lost where this file is replaced: it is empty, or holds figures."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size < MOST_FIGURES else None
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(content, dict) and not FIGURES_KEYS.isdisjoint(content)


def write_json(path: Path | None, report: dict[str, Any]) -> None:
    """Write the figures where a file is wanted."""
    if path is not None:
        write_text(path, json.dumps(report, indent=2) + "\n")
