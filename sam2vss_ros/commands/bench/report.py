"""What a benchmark found: printed for people, written as JSON for programs."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sam2vss_ros.commands.arguments import add_json_option, check_json, write_json

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

NOT_MET = 1
"""Exit code where what is measured is not as it should be."""


@dataclass(frozen=True)
class Table:
    """Names of columns, and rows of as many cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """Paragraphs and tables for people, and `figures` for programs.

    `device`: what was measured on. `holds`: whether what was measured is as it should be.
    """

    parts: Sequence[str | Table]
    figures: dict[str, Any]
    device: torch.device
    holds: bool = True


def add_report(
    parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], Report]
) -> None:
    """Declare `--json FILE`, and let the command report what `measure` finds."""
    add_json_option(parser)
    parser.set_defaults(command=functools.partial(_report, measure))


def _report(measure: Callable[[argparse.Namespace], Report], args: argparse.Namespace) -> int:
    from sam2vss_ros.bench.report import machine, markdown

    check_json(args.json, args.overwrite)
    report = measure(args)
    about = machine(report.device)
    try:
        print(f"\n{about['device']}, {about['threads']} CPU threads, torch {about['torch']}")
        for part in report.parts:
            print("\n" + (markdown(part.header, part.rows) if isinstance(part, Table) else part))
    finally:  # also where nobody reads what is printed
        write_json(args.json, {**report.figures, "machine": about})
    return 0 if report.holds else NOT_MET


def with_progress(frames: Iterable[T], count: int, title: str) -> Iterator[T]:
    """The frames as they are, while a bar on the terminal shows how many of `count` are done."""
    from tqdm import tqdm

    yield from tqdm(frames, total=count, unit="frame", desc=title)
