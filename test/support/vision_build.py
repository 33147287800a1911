"""vision_msgs for tests where ROS has none: the wheels do not bring it.

Built from test/support/vision_messages once, into build/, where a later run finds it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).resolve().parent / "vision_messages"
FOLDER = ROOT / "build" / "test_vision_msgs"


def vision_environment() -> dict[str, str]:
    """Variables of a process that finds vision_msgs. Raises RuntimeError if it does not build."""
    install = FOLDER / _fingerprint()
    if not install.is_dir():
        _build(install)
    (packages,) = install.glob("lib/python3*/site-packages")
    return {
        name: os.pathsep.join(filter(None, [str(place), os.environ.get(name, "")]))
        for name, place in (
            ("AMENT_PREFIX_PATH", install),
            ("LD_LIBRARY_PATH", install / "lib"),
            ("PYTHONPATH", packages),
        )
    }


def _fingerprint() -> str:
    """What a build depends on, in short."""
    content = sys.prefix.encode() + os.environ.get("ROS_DISTRO", "wheels").encode()
    for path in sorted(SOURCE.rglob("*")):
        content += path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(content).hexdigest()[:12]


def _build(install: Path) -> None:
    work = FOLDER / "work"
    steps: tuple[list[str | Path], ...] = (
        [
            "cmake", "-S", SOURCE, "-B", work, "-DBUILD_TESTING=OFF",
            f"-DCMAKE_PROJECT_INCLUDE={ROOT / 'cmake' / 'ros_wheels.cmake'}",
            f"-DCMAKE_INSTALL_PREFIX={install}.part",
        ],
        ["cmake", "--build", work, "--target", "install"],
    )  # fmt: skip
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, step))}: {done.stdout[-2000:]}{done.stderr}")
    Path(f"{install}.part").rename(install)
