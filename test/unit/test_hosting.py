"""What is for whoever hosts the project: maintainer, Dockerfile and workflow fit the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

DISTRIBUTIONS = ["humble", "jazzy", "kilted", "lyrical"]


@pytest.fixture
def dockerfile(root: Path) -> str:
    return (root / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def jobs(root: Path) -> dict[str, Any]:
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    return dict(workflow["jobs"])


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_the_line_for_the_maintainer(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "package.xml", tmp_path)
    page = (root / "docs/howto/hosting.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^sed -i .*package\.xml$", page, re.MULTILINE)
    subprocess.run(["bash", "-ec", line], cwd=tmp_path, check=True)
    before = ElementTree.parse(root / "package.xml").getroot()
    after = ElementTree.parse(tmp_path / "package.xml").getroot()
    (maintainer,) = after.findall("maintainer")
    assert (maintainer.text, maintainer.get("email")) == ("Your Name", "you@example.org")
    assert [e.tag for e in after.iter()] == [e.tag for e in before.iter()]


def test_the_dockerfile_installs_what_setup_py_asks_for(
    root: Path, dockerfile: str, tmp_path: Path
) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    lines = (tmp_path / "sam2vss_ros.egg-info/requires.txt").read_text().split("\n[")[0]
    asked = {r.name: r.specifier for r in map(Requirement, lines.split())}
    given = {
        r.name: r.specifier for r in map(Requirement, re.findall(r'"(\w+>=[^"]+)"', dockerfile))
    }
    for name in ("torch", "sam2", "safetensors", "rosbags"):  # the others come from apt
        assert given[name] == asked[name], name


def test_what_the_dockerfile_and_the_workflow_name_is_there(
    root: Path, dockerfile: str, jobs: dict[str, Any]
) -> None:
    named = re.findall(r"test/\w+/\w+\.py", dockerfile)
    named += re.findall(
        r"\.ci/run|Dockerfile|requirements\.txt", "".join(map(commands, jobs.values()))
    )
    assert len(named) > 6
    for path in named:
        assert (root / path).is_file(), path


def test_every_distribution_is_built(dockerfile: str, jobs: dict[str, Any]) -> None:
    assert jobs["image"]["strategy"]["matrix"]["distro"] == DISTRIBUTIONS
    assert all(name in dockerfile.splitlines()[0] for name in DISTRIBUTIONS)
    assert jobs["ros"]["strategy"]["matrix"]["distro"] == DISTRIBUTIONS[:3]
    assert ".ci/run" in commands(jobs["wheels"]) and ".ci/run" in commands(jobs["ros"])
    for job in jobs.values():
        assert job["timeout-minutes"] <= 90


def test_cmake_uses_nothing_that_lyrical_has_not(root: Path) -> None:
    assert "ament_target_dependencies" not in (root / "CMakeLists.txt").read_text(encoding="utf-8")
