"""The command `sam2vss`: the pipeline, its evaluation and its models from a shell, without ROS."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from sam2vss_ros.commands.arguments import BAD_INPUT, Parser
from sam2vss_ros.commands.bag import add_bag
from sam2vss_ros.commands.bench import add_bench
from sam2vss_ros.commands.config import add_config
from sam2vss_ros.commands.evaluate import add_evaluate
from sam2vss_ros.commands.metrics import add_metrics
from sam2vss_ros.commands.models import add_models
from sam2vss_ros.commands.run import add_run
from sam2vss_ros.commands.train import add_train
from sam2vss_ros.errors import InputError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 where a benchmark's demand is not met, 2 for bad
    input, 130 when interrupted."""
    args = make_parser().parse_args(arguments)
    logging.basicConfig(format="sam2vss: %(message)s", level=logging.WARNING)
    logging.getLogger("sam2vss_ros").setLevel(logging.INFO)

    try:
        code: int | None = args.command(args)
    except InputError as error:
        print(f"sam2vss: error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("sam2vss: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code or 0


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog="sam2vss",
        description="Online video semantic segmentation with SAM 2.",
        epilog="Every command has its own --help, with examples.",
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    add_run(commands)
    add_evaluate(commands)
    add_metrics(commands)
    add_bag(commands)
    add_config(commands)
    add_models(commands)
    add_train(commands)
    add_bench(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
