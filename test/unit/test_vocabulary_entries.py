"""How names in words are written, and which ids they get."""

from __future__ import annotations

import pytest

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.options import read_as
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.vocabulary.entries import (
    MOST_WORDS,
    Word,
    check_templates,
    parse_vocabulary,
)
from sam2vss_ros.semantics.vocabulary.ids import WordIds


def test_an_entry_is_a_name_with_or_without_synonyms() -> None:
    assert parse_vocabulary(["car = automobile, motor  car", " traffic light ", "Straße"]) == (
        Word("car", ("automobile", "motor car")),
        Word("traffic light"),
        Word("Straße"),
    )
    assert parse_vocabulary([]) == ()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["car", ""], "vocabulary: '' has an empty name: an entry is a name, or name=synonym,syn"),
        (["=auto"], "vocabulary: '=auto' has an empty name"),
        (["car="], "vocabulary: 'car=' has an empty name"),
        (["car=auto,"], "vocabulary: 'car=auto,' has an empty name"),
        (["car", "bus", "Car"], "vocabulary: 'Car' is there twice"),
        (["car=auto", "auto"], "vocabulary: 'auto' is there twice"),
        (["car=auto,auto"], "vocabulary: 'auto' is there twice"),
        (["car,bus"], "vocabulary: 'car,bus': a name has no ','.*several names are several entr"),
        (["a=b=c"], "vocabulary: 'a=b=c': a name has no '='"),
        (["{car}"], "vocabulary: '{car}': a name has no '{'"),
        (["c\x07ar"], "vocabulary: .* a name has no"),
        (["x" * 101], "vocabulary: .*has 101 characters; a name has at most 100"),
        ([f"n{i}" for i in range(MOST_WORDS + 1)], "vocabulary: 255 names; 254 at most"),
        ([f"n{i}=" + ",".join(f"s{i} {j}" for j in range(20)) for i in range(100)], "2048 at most"),
    ],
)
def test_what_says_nothing_is_refused_by_name(entries: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        PipelineConfig(vocabulary=tuple(entries))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("templates", [[], [""], ["a photo"], ["{} and {}"], ["x" * 200 + "{}"]])
def test_a_template_has_one_place_for_the_name(templates: list[str]) -> None:
    with pytest.raises(ValueError, match="templates: "):
        check_templates(templates)
    with pytest.raises(ValueError, match="templates: "):
        PipelineConfig(templates=tuple(templates))


def test_what_is_no_list_of_texts_is_refused() -> None:
    for wrong, said in (("car", "takes a list of texts"), (["car", True], "put it in quotes")):
        with pytest.raises(TypeError, match=f"vocabulary: .*{said}"):
            PipelineConfig.from_mapping({"vocabulary": wrong})


def test_a_command_line_divides_by_commas_or_semicolons() -> None:
    read = read_as(())
    assert read("car,person, tree") == ("car", "person", "tree")
    assert read("car=auto,van; person") == ("car=auto,van", "person")
    assert read("car=auto,van;") == ("car=auto,van",)
    assert read("") == ()
    assert read("car,,tree") == ("car", "", "tree")  # which the option refuses


def test_ids_go_by_position_and_are_never_given_to_another_name() -> None:
    ids = WordIds()
    assert ids.give(["car", "bus", "tree"], 255) == [0, 1, 2]
    assert ids.give(["tree", "Car"], 255) == [2, 0]
    assert ids.give(["dog", "tree", "bus"], 255) == [3, 2, 1]


def test_the_id_of_unlabelled_is_nobodys() -> None:
    assert WordIds().give(["car", "bus"], 0) == [1, 2]
    assert WordIds().give(["a", "b", "c"], 1) == [0, 2, 3]


def test_classes_that_were_published_first_keep_their_ids() -> None:
    ids, street = WordIds(), load_catalog("camvid")
    ids.claim(street)
    car = next(c.id for c in street.classes if c.name == "Car")
    new, known = ids.give(["cup", "car"], 255)
    assert known == car and new not in street.ids


def test_the_version_counts_what_changes() -> None:
    ids = WordIds()
    assert [ids.version_of(x) for x in ("a", "a", "b", "a")] == [1, 1, 2, 3]
