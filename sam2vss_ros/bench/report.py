"""Figures for people: a Markdown table, and what they were measured on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; all but the first to the right."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    sides = ["<", *">" * (len(widths) - 1)]
    lines = [
        " | ".join(f"{cell:{side}{w}}" for cell, side, w in zip(row, sides, widths, strict=True))
        for row in table
    ]
    rule = " | ".join(
        "-" * (w - 1) + ("-" if s == "<" else ":") for s, w in zip(sides, widths, strict=True)
    )
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]])


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
