"""A training run's folder: a checkpoint to go on from, and a log with a line for each step."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sam2vss_ros.errors import one_line
from sam2vss_ros.io.outputs import LineFile, write_bytes, write_text


def open_run(folder: Path, resume: bool) -> Path:
    """Make the run's folder; returns the path of its checkpoint, which need not exist.

    Raises FileExistsError where there is one and `resume` is off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise FileExistsError(f"{checkpoint} exists: give --resume to go on or another --out")
    return checkpoint


def save_checkpoint(path: Path, step: int, parts: Mapping[str, Any]) -> None:
    """Write the states of `parts`, which are modules and optimisers by name."""
    data = {name: part.state_dict() for name, part in parts.items()}
    whole = io.BytesIO()
    torch.save(data | {"step": step}, whole)
    write_bytes(path, whole.getvalue())


def load_checkpoint(path: Path, parts: Mapping[str, Any]) -> int:
    """Give `parts` their states back; returns the step.

    Raises ValueError for a file that is damaged, or of a run of something else.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(data[name])
        return int(data["step"])
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ValueError(
            f"{path} cannot be resumed, it is damaged or of another run: {one_line(error)}"
        ) from error


def open_log(folder: Path, step: int) -> LineFile:
    """log.jsonl, ready for the lines after `step`; what a broken run wrote beyond is dropped."""
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_text(path, "".join(kept))
    return LineFile(path, append=True)
