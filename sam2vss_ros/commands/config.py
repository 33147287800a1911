"""`sam2vss config`: print the parameters, as the node's parameter file or as a table."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from sam2vss_ros.commands.arguments import add_command
from sam2vss_ros.config import OPTIONS
from sam2vss_ros.options import Option, Value

HEADER = """\
# All parameters of the node vss with their defaults, as printed by `sam2vss config yaml`;
# `ros2 param describe /vss NAME` tells the same. Those marked Live can be set while the node runs;
# the others are read by configure.

/**:
  ros__parameters:"""

LINE = 94
"""Characters in a line of the parameter file at most."""


def add_config(commands: Any) -> None:
    """Declare `sam2vss config`."""
    parser = add_command(
        commands,
        "config",
        usage="yaml|table",
        help_="print all parameters with their defaults and meanings",
        description=(
            "Print every parameter of the node, those of the pipeline first, as\n"
            "  yaml   the commented parameter file of the node, config/vss.yaml\n"
            "  table  the Markdown table of the README"
        ),
        examples=(
            "  sam2vss config yaml > vss.yaml\n"
            "  ros2 launch sam2vss_ros vss.launch.py params_file:=vss.yaml\n"
            "  sam2vss config table"
        ),
    )
    parser.add_argument("form", choices=("yaml", "table"), metavar="yaml|table", help="the form")
    parser.set_defaults(command=_config)


def _config(args: argparse.Namespace) -> None:
    print(parameter_file() if args.form == "yaml" else parameter_table(), end="")


def parameter_file() -> str:
    """The text of config/vss.yaml: every parameter with its default, under its meaning."""
    parts = [HEADER]
    for name, (default, option) in OPTIONS.items():
        if option.heading:
            parts.append(f"    # ---- {option.heading} ----\n")
        comment = textwrap.fill(
            _comment(default, option),
            LINE,
            initial_indent="    # ",
            subsequent_indent="    # ",
            break_on_hyphens=False,
        )
        parts.append(f"{comment}\n    {name}: {_shown(default)}\n")
    return "\n".join(parts)


def _comment(default: Value, option: Option) -> str:
    """The meaning of a parameter, its bounds, and whether it may change while the node runs."""
    sentences = [option.meaning]
    if option.low is not None and option.high is not None:
        kind = float if isinstance(default, float) else int
        sentences.append(f"{kind(option.low)} to {kind(option.high)}")
    if option.live:
        sentences.append("Live")
    return " ".join(f"{sentence}." for sentence in sentences)


def parameter_table() -> str:
    """The parameters as a Markdown table, one row each."""
    rows = ["| parameter | default | live | meaning |", "|---|---|---|---|"]
    for name, (default, option) in OPTIONS.items():
        live, meaning = "yes" if option.live else "", option.meaning.replace("|", r"\|")
        rows.append(f"| `{name}` | `{_shown(default)}` | {live} | {meaning} |")
    return "\n".join(rows) + "\n"


def _shown(default: Value) -> str:
    """A default as YAML spells it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(i if i.isidentifier() else json.dumps(i) for i in default)}]"
    return '""' if default == "" else str(default)
