"""Class catalogs and class files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sam2vss_ros.semantics.catalog import (
    ClassCatalog,
    SemanticClass,
    catalog_data,
    load_catalog,
    parse_catalog,
)


def catalog(*ids: int) -> ClassCatalog:
    return ClassCatalog(
        "test", tuple(SemanticClass(i, f"c{i}", (i % 256, 0, 0), False) for i in ids)
    )


def written(folder: Path, **changes: Any) -> Path:
    """A class file of two classes with some keys changed; None leaves one out."""
    content: dict[str, Any] = {
        "name": "two",
        "ignore_id": 9,
        "classes": [
            {"id": 0, "name": "Sky", "color": [1, 2, 3]},
            {"id": 7, "name": "Car", "color": [4, 5, 6], "thing": True},
        ],
    } | changes
    path = folder / "classes.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


def test_camvid_is_shipped() -> None:
    camvid = load_catalog("camvid")
    assert camvid.name == "camvid" and len(camvid) == 11 and camvid.ignore_id == 11
    assert camvid.ids.tolist() == list(range(11))
    things = {c.name for c in camvid.classes if c.thing}
    assert things == {"Pole", "SignSymbol", "Car", "Pedestrian", "Bicyclist"}
    assert camvid.things.tolist() == [c.thing for c in camvid.classes]
    assert len({c.color for c in camvid.classes}) == 11


def test_a_class_file(tmp_path: Path) -> None:
    loaded = load_catalog(str(written(tmp_path)))
    assert loaded.ids.tolist() == [0, 7] and loaded.things.tolist() == [False, True]
    assert loaded.classes[1] == SemanticClass(7, "Car", (4, 5, 6), True)
    assert parse_catalog(catalog_data(loaded), "round trip") == loaded
    assert load_catalog(str(written(tmp_path, ignore_id=None))).ignore_id is None


def test_an_unknown_file_is_named_with_those_that_are_shipped(tmp_path: Path) -> None:
    for wanted in (str(tmp_path / "mine.yaml"), "cityscape"):
        with pytest.raises(FileNotFoundError, match=r"shipped by name: camvid") as caught:
            load_catalog(wanted)
        assert wanted in str(caught.value)


SKY = {"id": 0, "name": "Sky", "color": [1, 2, 3]}


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ([SKY, SKY | {"name": "Road"}], "id used twice: 0"),
        ([SKY, SKY | {"id": 1}], "name used twice: Sky"),
        ([SKY | {"id": 65536}], "id 65536 does not fit 16 bits"),
        ([SKY | {"id": -1}], "id -1"),
        ([SKY | {"id": 9}], "id 9 is also its ignore_id"),
        ([SKY | {"name": ""}], "class 0 has no name"),
        ([SKY | {"color": [1, 2]}], "Sky: a color"),
        ([SKY | {"color": [1, 2, 256]}], "Sky: a color"),
        ([SKY | {"id": "sky"}], "sky"),
        ([SKY | {"id": 1.7}], "class 1 of the list: id 1.7 does not fit 16 bits: it is a whole"),
        ([SKY | {"id": 1.0}], "id 1.0 does not fit"),
        ([SKY | {"id": True}], "id True does not fit"),
        ([SKY | {"id": float("inf")}], "id inf does not fit"),
        ([SKY | {"id": None}], "id None does not fit"),
        ([SKY | {"id": "0"}], "id '0' does not fit"),
        ([SKY | {"name": True}], "its name is text, not True: put it in quotes"),
        ([SKY | {"name": None}], "its name is text, not None"),
        ([SKY | {"name": ["Sky"]}], "its name is text"),
        ([SKY | {"name": "S" * 101}], "a name has at most 100 characters"),
        ([SKY | {"name": "a\nb"}], "a name has at most 100 characters that can be shown, not a b"),
        ([SKY | {"color": [1, 2, 1.5]}], r"Sky: a color is \[red, green, blue\], whole numbers"),
        ([SKY | {"color": [1, 2, float("inf")]}], "Sky: a color is"),
        ([SKY | {"color": [1, 2, True]}], "Sky: a color is"),
        ([SKY | {"color": [1, 2, -1]}], "Sky: a color is"),
        ([SKY | {"color": "#ff0000"}], "Sky: a color is"),
        ([SKY | {"thing": "no"}], "Sky: thing is true or false, not 'no'"),
        ([{"id": 0, "name": "Sky"}], "class 1 of the list has no color"),
        (["Sky"], "class 1 of the list is 'Sky', not {id, name, color}"),
        ({"Sky": SKY}, "it has no list `classes`"),
        ([{"id": 0, "color": [1, 2, 3]}], "name"),
        ([], "no classes"),
        (None, "classes"),
        ("Sky", "not a class file"),
    ],
)
def test_a_bad_class_file_is_named_with_its_fault(classes: Any, named: str, tmp_path: Path) -> None:
    path = written(tmp_path, classes=classes)
    with pytest.raises(ValueError, match=named) as caught:
        load_catalog(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ignore", [-1, 1.5, True, "void", 65536])
def test_an_ignore_id_that_is_none_is_named(ignore: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="ignore_id is a whole number from 0 to 65535, not"
    ) as said:
        load_catalog(str(written(tmp_path, ignore_id=ignore)))
    assert "leave it out where there is none" in str(said.value)


def test_what_a_class_file_holds_is_not_repeated_at_length(tmp_path: Path) -> None:
    for entry in (SKY | {"id": "x" * 9000}, SKY | {"color": ["x" * 9000]}, ["x"] * 9000):
        with pytest.raises(ValueError) as caught:
            load_catalog(str(written(tmp_path, classes=[entry])))
        assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"just words", b"\xff\xfe\x00", b""])
def test_what_is_no_yaml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "classes.yml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a class file") as caught:
        load_catalog(str(path))
    assert str(path) in str(caught.value)


def test_label_images_have_the_bits_that_the_ids_need() -> None:
    assert catalog(0, 254).label_dtype(255) is np.uint8
    assert catalog(0, 256).label_dtype(255) is np.uint16
    assert catalog(0, 1).label_dtype(256) is np.uint16
    assert catalog(65535).label_dtype(0) is np.uint16


def test_unlabelled_must_not_be_a_class() -> None:
    with pytest.raises(ValueError, match=r"unlabelled_id: 7 is the id of class c7"):
        catalog(0, 7).label_dtype(7)


def test_palette() -> None:
    palette = catalog(3, 300).palette((9, 9, 9))
    assert palette.shape == (65536, 3) and palette.dtype == np.uint8
    assert palette[3].tolist() == [3, 0, 0] and palette[300].tolist() == [44, 0, 0]
    assert (np.delete(palette, [3, 300], 0) == 9).all()


def test_a_refusal_shows_the_format(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("Road: 0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not a class file") as caught:
        load_catalog(str(path))
    shown = str(caught.value)
    assert "- {id: 0, name: Road, color: [128, 64, 128], thing: false}" in shown
    assert "docs/classes.md" in shown


def test_the_example_and_the_documented_format_are_class_files(root: Path, tmp_path: Path) -> None:
    example = load_catalog(str(root / "config/my_classes.yaml"))
    assert len(example) == len(load_catalog("camvid"))  # in whose place it stands
    text = (root / "docs/classes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(name: .*?)```", text, re.DOTALL)
    path = tmp_path / "documented.yaml"
    path.write_text(block, encoding="utf-8")
    documented = load_catalog(str(path))
    assert [c.name for c in documented.classes] == ["Road", "Person"]
    assert documented.ignore_id == 255 and documented.classes[1].thing
