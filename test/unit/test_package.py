"""What describes the package says the same everywhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import sam2vss_ros


@pytest.fixture
def manifest(root: Path) -> ElementTree.Element:
    return ElementTree.parse(root / "package.xml").getroot()


@pytest.fixture
def cmake(root: Path) -> str:
    return re.sub(r"#.*", "", (root / "CMakeLists.txt").read_text())


@pytest.fixture
def pins(root: Path) -> dict[str, Requirement]:
    lines = (root / "requirements.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {r.name.lower(): r for r in requirements}


@pytest.fixture
def metadata(root: Path, tmp_path: Path) -> dict[str, list[str]]:
    """What setup.py tells pip: field -> values."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    fields: dict[str, list[str]] = {}
    for line in (tmp_path / "sam2vss_ros.egg-info/PKG-INFO").read_text().splitlines():
        name, separator, value = line.partition(": ")
        if separator:
            fields.setdefault(name, []).append(value)
    return fields


def names(manifest: ElementTree.Element, *tags: str) -> set[str]:
    return {str(e.text) for tag in tags for e in manifest.findall(tag)}


def test_the_manifest_is_an_interface_package_of_format_3(manifest: ElementTree.Element) -> None:
    assert manifest.get("format") == "3"
    assert manifest.findtext("name") == "sam2vss_ros"
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("member_of_group") == "rosidl_interface_packages"
    assert manifest.findtext("export/build_type") == "ament_cmake"


def test_versions_agree(manifest: ElementTree.Element, metadata: dict[str, list[str]]) -> None:
    assert manifest.findtext("version") == sam2vss_ros.__version__ == metadata["Version"][0]


def test_every_interface_is_built(root: Path, cmake: str) -> None:
    files = {f"{p.parent.name}/{p.name}" for p in root.glob("msg/*.msg")}
    files |= {f"{p.parent.name}/{p.name}" for p in root.glob("srv/*.srv")}
    assert files == set(re.findall(r"(?:msg|srv)/\w+\.(?:msg|srv)", cmake))


def test_what_cmake_finds_the_manifest_names(manifest: ElementTree.Element, cmake: str) -> None:
    found = set(re.findall(r"find_package\((\w+)", cmake))
    assert found == names(manifest, "buildtool_depend", "depend")


def test_interfaces_use_declared_packages_only(root: Path, manifest: ElementTree.Element) -> None:
    used = set()
    for path in [*root.glob("msg/*.msg"), *root.glob("srv/*.srv")]:
        used |= set(re.findall(r"^(\w+)/\w+", path.read_text(), re.MULTILINE))
    assert used == names(manifest, "depend")


def test_ros_packages_that_the_code_imports_are_declared(
    root: Path, manifest: ElementTree.Element
) -> None:
    declared = names(manifest, "depend", "exec_depend")
    imported = set()
    folders = ("sam2vss_ros/ros", "sam2vss_ros/demo", "launch")
    for path in [path for folder in folders for path in root.glob(f"{folder}/**/*.py")]:
        modules = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        imported |= {m for m in modules if m.endswith("_msgs") or m in ROS_MODULES}
    assert imported <= declared, imported - declared


ROS_MODULES = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "launch",
    "launch_ros",
    "rcl_interfaces",
    "rclpy",
}


def test_the_core_imports_no_ros(root: Path) -> None:
    """Rule 1 of the house: all but ros/ and the demo's nodes runs without ROS."""
    for path in root.glob("sam2vss_ros/**/*.py"):
        if path.relative_to(root / "sam2vss_ros").parts[0] not in ("ros", "demo"):
            offending = sorted(m for m in imported_modules(path.read_text()) if is_ros(m))
            assert not offending, f"{path}: {offending}"


@pytest.mark.parametrize(
    "line",
    [
        "from sensor_msgs.msg import Image",
        "    import std_srvs.srv",
        "from std_msgs import msg",
        "import numpy, rclpy",
        "from rosidl_runtime_py.utilities import get_message",
        "from sam2vss_ros.msg import TrackedObject",
        "from sam2vss_ros import ros",
        "from sam2vss_ros.demo.player import play",
    ],
)
def test_an_import_of_ros_is_noticed(line: str) -> None:
    assert any(map(is_ros, imported_modules(textwrap.dedent(line))))


def imported_modules(code: str) -> set[str]:
    """Every module that a source imports, and every `module.name` that may be one."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def is_ros(module: str) -> bool:
    """Whether a module needs ROS, by its name."""
    top, *rest = module.split(".")
    if top == "sam2vss_ros":
        return bool(rest) and rest[0] in ("ros", "demo", "msg", "srv")
    return (
        top in ROS_MODULES
        or top.endswith(("_msgs", "_srvs"))
        or top.startswith(("rosidl", "rclpy", "tf2", "launch"))
    )


def test_torchvision_is_never_imported(root: Path) -> None:
    for path in root.glob("sam2vss_ros/**/*.py"):
        assert not re.search(r"^\s*(?:from|import) torchvision", path.read_text(), re.MULTILINE)


def test_the_pins_are_exact_and_within_the_ranges_of_setup_py(
    pins: dict[str, Requirement], metadata: dict[str, list[str]]
) -> None:
    for pin in pins.values():
        assert str(pin.specifier).startswith("=="), pin
    for text in metadata["Requires-Dist"]:
        needed = Requirement(text)
        version = str(pins[needed.name.lower()].specifier).removeprefix("==")
        assert needed.specifier.contains(version), (needed, version)


def test_pip_knows_the_command_and_the_pythons(metadata: dict[str, list[str]]) -> None:
    assert metadata["Requires-Python"] == [">=3.10"]
    assert metadata["License"] == ["Apache-2.0"] or metadata["License-Expression"] == ["Apache-2.0"]


def test_a_wheel_holds_every_file_of_the_package(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path)]
    subprocess.run([*command, "egg_info", "--egg-base", str(tmp_path)], cwd=root, check=True)
    built = tmp_path / "lib/sam2vss_ros"
    wanted = {
        path.relative_to(root / "sam2vss_ros")
        for path in (root / "sam2vss_ros").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.relative_to(built) for path in built.rglob("*") if path.is_file()} == wanted


def test_configuration_files_parse(root: Path) -> None:
    for path in [*root.glob("config/*.yaml"), *root.glob("sam2vss_ros/classes/*.yaml")]:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    ElementTree.parse(root / "sam2vss_ros/ros/loopback.xml")


def test_commands_are_executable(root: Path) -> None:
    for name in (
        "scripts/setup",
        "scripts/test",
        "scripts/demo",
        "scripts/pictures",
        "scripts/vss_node",
        ".ci/run",
    ):
        assert (root / name).stat().st_mode & 0o111, name
