"""The command `sam2vss`: the pipeline, its evaluation and its models from a shell, without ROS."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from sam2vss_ros.commands import BAD_INPUT
from sam2vss_ros.commands.signals import stopping
from sam2vss_ros.errors import InputError

# All else is imported once signals are taken: those that come early end quietly, too.
if TYPE_CHECKING:
    import argparse

BROKEN_PIPE = 141  # as a shell says of what SIGPIPE has ended
SIGNALLED = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 where a benchmark's demand is not met, 2 for bad
    input and for output that cannot be written, 128 and its number where a signal has ended it (130
    for Ctrl-C), 141 where nobody reads the output any more."""
    with stopping() as signals:
        try:
            try:
                return _run(arguments)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # here it is noticed that the output cannot be written
        except BaseException as error:
            # An interrupted import may make anything of what the signal raised.
            if signals.number is not None or isinstance(error, KeyboardInterrupt):
                _say("interrupted")
                return SIGNALLED + (signals.number or signal.SIGINT)
            if isinstance(error, BrokenPipeError):
                _drop_output()
                return BROKEN_PIPE
            if isinstance(error, InputError):
                _say(f"error: {error}")
                return BAD_INPUT
            if isinstance(error, OSError) and error.strerror:
                _drop_output()
                _say(f"error: {error.filename or 'the output'}: {error.strerror}")
                return BAD_INPUT
            raise


def _run(arguments: Sequence[str] | None) -> int:
    import logging

    args = make_parser().parse_args(arguments)
    logging.basicConfig(format="sam2vss: %(message)s", level=logging.WARNING)
    logging.getLogger("sam2vss_ros").setLevel(logging.INFO)
    code: int | None = args.command(args)
    return code or 0


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from sam2vss_ros.commands.arguments import Parser
    from sam2vss_ros.commands.bag import add_bag
    from sam2vss_ros.commands.bench import add_bench
    from sam2vss_ros.commands.config import add_config
    from sam2vss_ros.commands.evaluate import add_evaluate
    from sam2vss_ros.commands.export import add_export
    from sam2vss_ros.commands.label import add_label
    from sam2vss_ros.commands.metrics import add_metrics
    from sam2vss_ros.commands.models import add_models
    from sam2vss_ros.commands.run import add_run
    from sam2vss_ros.commands.train import add_train

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
    add_label(commands)
    add_config(commands)
    add_models(commands)
    add_train(commands)
    add_export(commands)
    add_bench(commands)
    return parser


def _say(text: str) -> None:
    print(f"sam2vss: {text}", file=sys.stderr)


def _drop_output() -> None:
    """Have what is still to be printed go nowhere, or the end of the interpreter fails on it."""
    with suppress(OSError):  # where the output is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
