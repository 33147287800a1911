"""Label sets that meet: the classes of a network become those of the catalog."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from network_samples import (
    CPU,
    assert_distribution,
    catalog,
    picture,
)
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.class_mapping import MappedNetwork, load_class_map, map_classes
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.types import Frame


class Fixed:
    """A network that always says the same."""

    name = "fixed"

    def __init__(self, names: list[str], probabilities: list[float]) -> None:
        self.catalog = catalog(*names)
        self._log = torch.tensor(probabilities).log()[:, None, None].expand(-1, 2, 3)

    def accepts(self, frame: Frame) -> bool:
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        return self._log


FRAME = Frame(picture(8, 8), 0)


def said(network: Any) -> list[float]:
    answer = network.log_probabilities(FRAME)
    assert_distribution(answer, len(network.catalog))
    return answer[:, 0, 0].exp().tolist()


def test_several_classes_add_up_to_one() -> None:
    network = Fixed(["car", "truck", "road"], [0.3, 0.4, 0.3])
    mapped = map_classes(
        network, catalog("Road", "Car"), {"car": "Car", "truck": "Car", "road": "Road"}
    )
    assert said(mapped) == pytest.approx([0.3, 0.7], abs=1e-3)
    assert mapped.name == "fixed" and [c.name for c in mapped.catalog.classes] == ["Road", "Car"]


def test_without_a_map_names_meet_exactly(caplog: pytest.LogCaptureFixture) -> None:
    network = Fixed(["sky", "Car", "car", "road"], [0.4, 0.1, 0.3, 0.2])
    with caplog.at_level(logging.WARNING):
        mapped = map_classes(network, catalog("road", "car", "dog"), {})
    assert said(mapped) == pytest.approx([0.4, 0.6, 0], abs=1e-3)
    (record,) = caplog.records
    assert "left out since test has no such class: sky, Car; not known to it: dog" in record.message
    said(mapped)
    assert len(caplog.records) == 1


def test_the_same_classes_need_no_mapping() -> None:
    network = Fixed(["road", "car"], [0.5, 0.5])
    assert map_classes(network, catalog("road", "car"), {}) is network
    assert isinstance(map_classes(network, catalog("car", "road"), {}), MappedNetwork)


def test_where_all_that_it_sees_is_left_out_nothing_is_said() -> None:
    mapped = map_classes(Fixed(["sky", "road"], [1.0, 0.0]), catalog("road", "car"), {})
    assert said(mapped) == pytest.approx([0.5, 0.5])


def test_nothing_in_common_lists_both() -> None:
    with pytest.raises(ValueError, match="no name is in both") as caught:
        map_classes(Fixed(["sky", "road"], [0.5, 0.5]), catalog("Sky", "Road"), {})
    assert "sky, road" in str(caught.value) and "Sky, Road" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"skye": "Sky"}, "network fixed has no class skye; it has sky, road"),
        ({"sky": "Himmel"}, "catalog test has no class Himmel; it has Sky, Road"),
    ],
)
def test_a_map_with_a_name_that_is_not_there(names: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^class_map: {reason}"):
        map_classes(Fixed(["sky", "road"], [0.5, 0.5]), catalog("Sky", "Road"), names)


def test_cityscapes_becomes_camvid() -> None:
    theirs, ours = load_catalog("cityscapes"), load_catalog("camvid")
    names = load_class_map("cityscapes_to_camvid")
    assert set(names) == {c.name for c in theirs.classes} and len(theirs) == 19
    assert set(names.values()) == {c.name for c in ours.classes}
    labels = LabelImages(theirs, CPU)
    mapped = map_classes(labels, ours, names)
    seen = np.array([[0, 14, 11, 18, 8, 9, 7]], np.uint8)
    answer = mapped.log_probabilities(Frame(picture(8, 8), 0, seen))
    found = [ours.classes[i].name for i in answer[:, 0].argmax(0).tolist()]
    assert found == ["Road", "Car", "Pedestrian", "Bicyclist", "Tree", "Tree", "SignSymbol"]


@pytest.mark.parametrize("content", ["a: [", "- road", "road: 3", "just words"])
def test_a_file_that_is_no_map(content: str, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="^class_map: ") as caught:
        load_class_map(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_map_is_named_with_those_that_are_shipped() -> None:
    for name in ("mine.yaml", "mine"):
        with pytest.raises(FileNotFoundError, match=r"mine.*shipped by name: cityscapes_to_camvid"):
            load_class_map(name)
