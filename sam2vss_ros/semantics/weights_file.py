"""Weight files: tensors in safetensors, and in their metadata, as JSON, what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sam2vss_ros.errors import one_line
from sam2vss_ros.io.outputs import write_bytes

KEY = "sam2vss"
"""The entry of the metadata that is ours."""


def save_weights(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> None:
    """Write tensors, floats in half precision, and plain data that says what they are, if given."""
    data = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in tensors.items()
    }
    metadata = {"format": "pt"} if about is None else {KEY: json.dumps(about)}
    # Not `save_file`, whose files only their owner may read.
    write_bytes(path, save(data, metadata))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, on the CPU as they were written, and what it says about them.

    To be called in `refusing`: it raises whatever reading a file of somebody else may raise, and
    ValueError for weights that are not finite.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if KEY not in metadata:
            raise ValueError(f"it has tensors, but no entry {KEY} that says what they are")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{key} holds NaN or infinite weights: its training failed")
    return tensors, json.loads(metadata[KEY])


@contextmanager
def refusing(refusal: str) -> Iterator[None]:
    """Turn errors of reading a file, and of making something of it, into ValueError.

    Its text is `refusal`, which names the file and what it is not, and the reason in one line.
    """
    try:
        yield
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        raise ValueError(f"{refusal}: {one_line(error)}") from error
