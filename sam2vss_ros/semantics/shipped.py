"""Files that the package ships by name and users have by path."""

from __future__ import annotations

from pathlib import Path

from sam2vss_ros.errors import one_line


def yaml_path(name_or_path: str, folder: Path, what: str) -> Path:
    """The YAML file at a path that ends like one, or the one of that name in `folder`.

    Raises FileNotFoundError naming what was looked for, where, and the shipped names.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        there = "is not a file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{what} {one_line(path)} {there}; shipped by name: {shipped}")
    return path
