"""scripts/env.sh, in shells like those of a user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def bash(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a bash without the settings of this environment, unless ROS 2 is sourced."""
    base = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    if "ROS_DISTRO" in os.environ:
        base = dict(os.environ)
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=cwd,
        env=base | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_everything_is_on_the_path(root: Path, tmp_path: Path) -> None:
    script = f"""
        . {root}/scripts/env.sh
        python -c 'import rclpy, sam2vss_ros.msg, sam2vss_ros.srv; print(sam2vss_ros.msg.__file__)'
        command -v sam2vss vss_node
    """
    result = bash(script, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    messages, command, node = result.stdout.splitlines()
    assert Path(messages).is_relative_to(root / "install")
    assert Path(command) == root / ".venv/bin/sam2vss"
    assert Path(node) == root / "install/sam2vss_ros/lib/sam2vss_ros/vss_node"
    assert os.access(node, os.X_OK)


def test_the_node_runs_in_its_python_where_no_environment_is_active(
    root: Path, tmp_path: Path
) -> None:
    """As `ros2 run` and `ros2 launch` start it in a terminal that has sourced the workspace alone.

    The Python of that terminal need not have torch nor, where ROS 2 is from wheels, rclpy.
    """
    node = root / "install/sam2vss_ros/lib/sam2vss_ros/vss_node"
    first = node.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"#!{root}/.venv/bin/python3"
    wheels = (root / ".venv/ros").read_text().strip() == "wheels"
    script = f"""
        {f"export AMENT_PREFIX_PATH={root}/.venv" if wheels else ""}
        . {root}/install/local_setup.bash
        export ROS_LOG_DIR={tmp_path}
        timeout 40 {node} &
        until grep -rqs 'active' {tmp_path} || ! kill -0 $!; do sleep 0.2; done
        kill $!
        wait $!
    """
    plain = os.environ["PATH"] if "ROS_DISTRO" in os.environ else "/usr/bin:/bin"
    result = bash(script, tmp_path, PATH=plain)
    assert "ModuleNotFoundError" not in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("options", ["", "e", "u", "eu"])
def test_the_options_of_the_shell_stay(root: Path, tmp_path: Path, options: str) -> None:
    set_options = f"set -{options};" if options else ""
    script = f'{set_options} before=$-; . {root}/scripts/env.sh; echo "$before $-"'
    result = bash(script, tmp_path)
    assert result.returncode == 0, result.stderr
    before, after = result.stdout.split()
    assert before == after


def test_sourcing_twice_changes_nothing(root: Path, tmp_path: Path) -> None:
    show = "env | grep -E '^(PATH|PYTHONPATH|AMENT_PREFIX_PATH|LD_LIBRARY_PATH)=' | sort"
    source = f". {root}/scripts/env.sh"
    once, twice = bash(f"{source}; {show}", tmp_path), bash(f"{source}; {source}; {show}", tmp_path)
    assert once.stdout.count("\n") >= 3
    assert once.stdout == twice.stdout


def test_dds_is_confined_without_a_ros_of_the_users_own(root: Path, tmp_path: Path) -> None:
    result = bash(f". {root}/scripts/env.sh; env", tmp_path)
    variables = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    if "ROS_DISTRO" in os.environ:
        assert variables.get("FASTDDS_DEFAULT_PROFILES_FILE") == os.environ.get(
            "FASTDDS_DEFAULT_PROFILES_FILE"
        )
    else:
        assert variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"
        assert Path(variables["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()
        assert Path(variables["ROS_LOG_DIR"]).is_relative_to(root)


def test_another_ros_than_at_setup_is_refused(root: Path, tmp_path: Path) -> None:
    script = f"set -u; . {root}/scripts/env.sh; echo status $? options $-"
    result = bash(script, tmp_path, ROS_DISTRO="noetic")
    assert "'noetic'" in result.stderr and "scripts/setup" in result.stderr
    assert result.stdout.startswith("status 1 options") and "u" in result.stdout.split()[-1]


def test_a_repository_that_is_not_set_up_says_so(root: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts/env.sh", tmp_path / "scripts")
    result = bash(". scripts/env.sh; echo status $?", tmp_path)
    assert result.stdout == "status 1\n"
    assert f"run {tmp_path}/scripts/setup first" in result.stderr
