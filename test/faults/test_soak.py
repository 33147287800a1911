"""`scripts/soak`, as short as can be: its parts run, and their figures add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_short_soak(root: Path, tmp_path: Path) -> None:
    lengths = ("--cycles", "2", "--minutes", "0.1", "--frames", "40", "--size", "160x120")
    path = os.pathsep.join([str(root / "install/sam2vss_ros/lib/sam2vss_ros"), os.environ["PATH"]])
    run = subprocess.run(
        [sys.executable, "-m", "sam2vss_ros.demo.soak", *lengths, "--out", str(tmp_path)],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    # So short a run may not hold what the page promises of memory, which then is code 1.
    assert run.returncode in (0, 1), run.stderr
    assert "Traceback" not in run.stderr
    cycles, camera, engine = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert cycles["frames_in"] == cycles["processed"] == 20
    assert len(cycles["memory_mb"]) == 2
    assert camera["frames_in"] == 180
    assert 0 < camera["processed"] == camera["frames_in"] - camera["dropped"] - camera["failed"]
    assert camera["latency_ms_p95"] > 0 and camera["failed"] == 0
    assert engine["processed"] == 40 and engine["ids"] > 0
    for part in (cycles, camera, engine):
        assert min(part["memory_mb"]) > 100
        assert f" {part['name']} " in run.stdout
    others = [p for part in (cycles, camera) for p in part["problems"] if "memory" not in p]
    assert not others
