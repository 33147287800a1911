"""What it takes to repeat a measurement: command, code, weights, packages and machine."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sam2vss_ros import __version__

PACKAGES = (
    "torch", "sam2", "numpy", "opencv-python-headless", "Pillow", "safetensors", "rosbags",
    "transformers", "onnxruntime",
)  # fmt: skip


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """Plain data on this run; call it after the models are loaded, which set the threads."""
    return {
        "command": shlex.join(command),
        "folder": str(Path.cwd()),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "sam2vss_ros": __version__,
        "git_commit": git_commit(Path(__file__)),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "processor": _processor(),
            "logical_cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
        },
    }


def fingerprints(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Path, size in bytes and SHA-256 of files; of folders, of every file in them."""
    paths = [p for f in files for p in (sorted(f.rglob("*")) if f.is_dir() else [f])]
    return [
        {"path": str(p), "bytes": p.stat().st_size, "sha256": _sha256(p)}
        for p in paths
        if p.is_file()
    ]


def git_commit(file: Path) -> str | None:
    """The commit that a tracked file is at, with `-dirty` where tracked files were changed since;
    None outside of a repository."""
    git = ["git", "-C", str(file.resolve().parent)]
    try:
        tracked = subprocess.run(
            [*git, "ls-files", "--error-unmatch", file.name], capture_output=True, check=False
        )
        if tracked.returncode != 0:
            return None
        described = subprocess.run(
            [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git here, or a repository without commits
        return None
    return described.stdout.strip()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Python itself knows only the architecture on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
