"""The tests of test/ros/vision, where ROS has no vision_msgs: with messages of our own making."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vision_build import vision_environment


@pytest.mark.skipif(
    importlib.util.find_spec("vision_msgs") is not None,
    reason="vision_msgs is installed: test/ros/vision runs as it is",
)
def test_with_vision_msgs(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test/ros/vision"],
        cwd=root,
        env=os.environ | vision_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
