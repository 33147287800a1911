"""Files that the package ships by name and users have by path."""

from __future__ import annotations

from pathlib import Path


def yaml_path(name_or_path: str, folder: Path, what: str) -> Path:
    """The YAML file at a path that ends like one, or the one of that name in `folder`.

    Raises FileNotFoundError naming what was looked for, where, and the shipped names.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise FileNotFoundError(f"{what} {path} does not exist; shipped by name: {shipped}")
    return path
