"""Groups of classes: how they are written, and what is said of those that do not do."""

from __future__ import annotations

import pytest

from sam2vss_ros.config import NodeConfig
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.groups import ClassGroup, mask_ids, parse_group


def test_a_class_stands_for_itself_and_a_group_for_several() -> None:
    assert parse_group("Car") == ClassGroup("Car", ("Car",))
    assert parse_group(" people = Pedestrian , Bicyclist") == ClassGroup(
        "people", ("Pedestrian", "Bicyclist")
    )
    assert parse_group("lights=traffic light") == ClassGroup("lights", ("traffic light",))


def test_ids_are_those_of_the_catalog() -> None:
    found = mask_ids(["people=Pedestrian,Bicyclist", "Car"], load_catalog("camvid"))
    assert found == {"people": (9, 10), "Car": (8,)}
    assert mask_ids([], load_catalog("camvid")) == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("", "'' has no name: write Car, or people=Pedestrian,Bicyclist"),
        ("=Car", "'=Car' has no name"),
        ("traffic light", "letter first; give it one, as in my_name=traffic light"),
        ("1st=Car", "'1st=Car': 1st cannot stand in a topic"),
        ("a__b=Car", "a__b cannot stand in a topic"),
        ("people=", "a class is missing"),
        ("people=Pedestrian,,Car", "a class is missing"),
        ("people=Car,Car", "names a class twice"),
        ("camera_info=Car", "the calibration has the topic mask/camera_info"),
    ],
)
def test_entries_that_do_not_do_are_refused(entry: str, said: str) -> None:
    with pytest.raises(ValueError, match="^masks: ") as caught:
        NodeConfig(masks=(entry,))
    assert said in str(caught.value)


def test_each_name_counts_once() -> None:
    with pytest.raises(ValueError, match="masks: Car, Car: each name counts once"):
        NodeConfig(masks=("Car", "Car=Tree"))


def test_an_unknown_class_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="^masks: people: no class 'Pedestrain' in camvid") as said:
        mask_ids(["people=Pedestrain,Car"], load_catalog("camvid"))
    assert "do you mean Pedestrian?; there are Sky, Building" in str(said.value)
    with pytest.raises(ValueError, match="no class 'car' in camvid, do you mean Car"):
        mask_ids(["car"], load_catalog("camvid"))
