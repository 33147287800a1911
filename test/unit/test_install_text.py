"""The installation text: what it tells to type works where the system's Python refuses pip."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

SYSTEM = Path("/usr/bin/python3")


def blocks(path: Path) -> list[str]:
    """The blocks of shell commands in a page."""
    return re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def pip(python: Path) -> str:
    """What pip says to somebody who installs something; nothing is looked for, or installed."""
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-index",
        "nothing-of-this-name",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_pip_is_told_to_run_in_an_environment(page: str, root: Path) -> None:
    told = [block for block in blocks(root / page) if "pip install" in block]
    assert told
    for block in told:
        before = block[: block.index("pip install")]
        assert re.search(r"-m venv .*\.venv.*source \.venv/bin/activate", before, re.S), block


def test_both_pages_tell_the_same(root: Path) -> None:
    (long,) = [b for b in blocks(root / "docs/install.md") if "--system-site-packages" in b]
    (short,) = [b for b in blocks(root / "README.md") if "--system-site-packages" in b]
    assert set(short.splitlines()) < set(long.splitlines())


APT = {"numpy": "numpy", "opencv-python-headless": "opencv", "PyYAML": "yaml", "Pillow": "pil"}
"""Packages whose name at apt, after python3-, is another."""


@pytest.mark.parametrize(
    "page", ["README.md", "docs/install.md", "docs/howto/jetson.md", "Dockerfile"]
)
def test_pip_is_told_of_all_that_rosdep_does_not_bring(page: str, root: Path) -> None:
    (required,) = re.findall(r"install_requires=\[(.*?)\]", (root / "setup.py").read_text(), re.S)
    manifest, text = (root / "package.xml").read_text(), (root / page).read_text(encoding="utf-8")
    told = " ".join(re.findall(r"pip install((?:\\\n|[^\n])*)", text))
    for name in re.findall(r'"([\w-]+)', required):
        by_rosdep = f"<exec_depend>python3-{APT.get(name, name)}<" in manifest
        by_sam2 = name == "omegaconf"  # hydra's
        assert by_rosdep or by_sam2 or re.search(rf"\b{name}\b", told), name


def test_the_environment_takes_packages_and_sees_those_of_the_system(
    root: Path, tmp_path: Path
) -> None:
    """By the very line of the text."""
    if not SYSTEM.exists():
        pytest.skip("the system has no Python of its own")
    (line,) = {
        line
        for page in ("README.md", "docs/install.md")
        for block in blocks(root / page)
        for line in block.splitlines()
        if "--system-site-packages" in line
    }
    subprocess.run(["bash", "-ec", line], cwd=tmp_path, check=True, timeout=120)
    said = pip(tmp_path / ".venv/bin/python")
    assert "externally-managed" not in said
    assert "No matching distribution" in said
    settings = (tmp_path / ".venv/pyvenv.cfg").read_text()
    assert "include-system-site-packages = true" in settings
    assert (tmp_path / ".venv/COLCON_IGNORE").is_file()


def test_without_it_pip_refuses_where_the_text_says_so() -> None:
    marker = Path(sysconfig.get_path("stdlib", vars={"base": "/usr", "installed_base": "/usr"}))
    if not (marker / "EXTERNALLY-MANAGED").is_file() or not SYSTEM.exists():
        pytest.skip("the system's Python takes packages")
    assert "externally-managed-environment" in pip(SYSTEM)
