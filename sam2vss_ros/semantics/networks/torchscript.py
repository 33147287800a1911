"""TorchScript files: programs, which are read before they are run.

What a TorchScript program does beyond its tensors it does by operations of torch that are known by
name: a few open files, others call machines or C++ classes. A file that names none of these, and
runs nothing while it is loaded, is taken; the rest only with `allow_torchscript`. This is no
sandbox: a program can still fill the memory, never end, or use a fault of torch itself.
"""

from __future__ import annotations

import re
import zipfile
from functools import cache
from pathlib import Path

import torch

from sam2vss_ros.errors import one_line

SPACES = ("aten", "prim")
"""Namespaces of torch's own operations on tensors, and of the language itself."""

WHILE_LOADING = "__setstate__"

REMOTE = ("rpc_async", "rpc_remote", "rpc_sync")

MAX_UNPACKED = 64 << 20
"""Bytes that a file may unpack to, beyond ten times its own."""


def load_torchscript(
    path: Path, device: torch.device, allow: bool = False
) -> torch.jit.ScriptModule:
    """Load a file of torch.jit.save in eval mode; `allow`: whatever it does.

    Raises ValueError naming what it does beyond computing, or where it is no TorchScript.
    """
    try:
        if not allow:
            done = _beyond_computing(path)
            if done:
                raise _ProgramError(
                    f"network: {path} is TorchScript, a program, and it {done}: it is not run. "
                    "Export the network to ONNX, or where you trust who made it set "
                    "allow_torchscript: true"
                )
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device).eval()
    except _ProgramError:
        raise
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        raise ValueError(
            f"network: {path} is damaged or not TorchScript (torch.jit.trace or script makes it; a "
            "checkpoint of weights alone is none)"
        ) from error
    return module


class _ProgramError(ValueError):
    """A file that is TorchScript, but does more than a network should."""


def _beyond_computing(path: Path) -> str:
    """What a program does beyond computing, in words; empty: nothing.

    Raises whatever reading a damaged file may raise.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > 10 * path.stat().st_size + MAX_UNPACKED:
        return "unpacks to many times its size"
    # Torch's own reader: what it finds is what is loaded.
    reader = torch._C.PyTorchFileReader(str(path))
    records = [name for name in reader.get_all_records() if not name.endswith(".debug_pkl")]
    if "model.json" in records:
        return "has the format of 2018, which is not looked into"
    for name in records:
        if name.endswith(".pkl") and b"torch.classes" in reader.get_record(name):
            return "holds C++ objects"
        if name.endswith(".py"):
            done = _named_in(reader.get_record(name).decode("utf-8", "replace"))
            if done:
                return done
    return ""


def _named_in(code: str) -> str:
    words = set(re.findall(r"[A-Za-z_]\w*", code))
    for found in sorted(words & _file_operations()):
        return f"names {found}, which reads and writes files"
    for found in sorted(words.intersection(REMOTE)):
        return f"names {found}, which calls other machines"
    if WHILE_LOADING in words:
        return "runs while it is loaded (__setstate__)"
    if re.search(r"\.\s*classes\b", code):
        return "makes C++ objects"
    for space in re.findall(r"\bops\s*\.\s*(\w+)", code):
        if space not in SPACES:
            return f"names operations of {one_line(space, 40)}"
    return ""


@cache
def _file_operations() -> frozenset[str]:
    """Operations of `SPACES` that take the name of a file, in this version of torch."""
    schemas = (s for s in torch._C._jit_get_all_schemas() if s.name.split("::")[0] in SPACES)
    return frozenset(
        s.name.split("::")[1] for s in schemas if any("file" in a.name for a in s.arguments)
    )
