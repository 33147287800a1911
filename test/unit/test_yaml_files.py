"""YAML files of strangers: what is too much is refused in a line, before it takes time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sam2vss_ros.io.calibration import load_calibration
from sam2vss_ros.io.yaml_files import MAX_BYTES, read_yaml
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.class_mapping import load_class_map


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lists_of_lists(levels: int) -> str:
    """A bomb: each level is ten times the one before it."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def maps_of_maps(levels: int) -> str:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, levels)]
    return "\n".join(lines)


def merged(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lists_of_lists(10), "more than 50000 values, aliases counted as they stand"),
        (maps_of_maps(40), "more than 50000 values, aliases"),
        (merged(40), "more than 50000 values, aliases"),
        ("&a [*a]", "more than 50000 values, aliases"),
        ("[" * 3000, "line 1, column 21: more than 20 levels, one in another"),
        ("- " * 3000 + "x", "more than 20 levels"),
        ("{a: " * 3000, "more than 20 levels"),
        ("[" + "1, " * 60_000 + "]", "more than 50000 values"),
        ("a: " + "x" * (MAX_BYTES + 1), "it is larger than 1 MB"),
        ("a: " + "1:" * 20_000 + "1", "a value of more than 10000 characters"),
        ("a: " + "9" * 9000, "a value is not what it seems to be: Exceeds the limit"),
        ("a: 2020-99-99", "a value is not what it seems to be: month must be in 1..12"),
        ("a: !!int ''", "a value is not what it seems to be"),
        ("a: !!bool perhaps", "a value is not what it seems to be"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there twice"),
        ("a:\n\t- 1", "line 2, column 1: found a tab that cannot start any token"),
        ("a: [1", "line 1, column 6: expected ',' or ']'"),
        ("a: *b", "line 1, column 4: found undefined alias 'b'"),
        ("? {a: 1}\n: 2", "found unhashable key"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (b"a: \x00", "special characters are not allowed"),
        (b"\xff\xff\xff", "invalid start byte"),
    ],
)
def test_what_is_too_much_or_no_yaml_is_told_in_a_line(
    content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    start = time.monotonic()
    with pytest.raises(ValueError) as caught:
        read_yaml(path)
    assert time.monotonic() - start < 20, "a bomb takes minutes"
    message = str(caught.value)
    assert said in message
    assert "\n" not in message and len(message) <= 360


def test_what_people_write_is_read(tmp_path: Path) -> None:
    content = "red: &red [1, 2, 3]\nsame: *red\nbase: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}\n"
    read = read_yaml(written(tmp_path, content))
    assert read["same"] == read["red"] == [1, 2, 3]
    assert read["more"] == {"x": 3, "y": 2}
    assert read_yaml(written(tmp_path, "")) is None
    assert read_yaml(written(tmp_path, "name: Straße\n")) == {"name": "Straße"}
    assert read_yaml(written(tmp_path, maps_of_maps(10)))["a9"]["x"]["y"], "1024 small maps are few"


@pytest.mark.parametrize("content", [lists_of_lists(10), "[" * 3000, "a: 1\na: 2"])
def test_every_file_of_ours_is_read_so(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    for read in (load_catalog, load_class_map, lambda name: load_calibration(Path(name))):
        with pytest.raises(ValueError) as caught:
            read(str(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert any(word in str(caught.value) for word in ("values", "levels", "twice"))
