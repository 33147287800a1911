"""Drawn streets among the stills of a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam2vss_ros.errors import InputError
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass
from sam2vss_ros.training.data import VOID_LABEL
from sam2vss_ros.training.drawn import drawn_stills
from street_stills import CAMVID

SIZE = 48, 64


def test_stills_differ_and_have_the_classes_of_camvid() -> None:
    first, later, other = drawn_stills(3, CAMVID, SIZE)
    assert len({first.name, later.name, other.name}) == 3
    for still in (first, later, other):
        assert still.image.shape == (*SIZE, 3) and still.labels.shape == SIZE
        assert {0, 1, 3} <= set(np.unique(still.labels).tolist()) <= {*range(11), VOID_LABEL}
    assert not np.array_equal(first.image, later.image), "of one drive, at another time"
    assert not np.array_equal(first.image, other.image), "of another drive"
    (again,) = drawn_stills(1, CAMVID, SIZE)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)


def test_classes_are_joined_by_name_and_others_are_void() -> None:
    names = {"Road": 0, "lawn": 1, "Car": 2}
    own = ClassCatalog(
        "own", tuple(SemanticClass(7 + i, n, (i, 0, 0), False) for n, i in names.items())
    )
    ours, theirs = drawn_stills(1, CAMVID, SIZE)[0].labels, drawn_stills(1, own, SIZE)[0].labels
    index = {c.name: i for i, c in enumerate(CAMVID.classes)}
    assert np.array_equal(theirs == 0, ours == index["Road"]) and (theirs == 0).any()
    assert np.array_equal(theirs == 2, ours == index["Car"])
    assert not (theirs == 1).any() and (theirs == VOID_LABEL).any()


def test_classes_of_which_none_is_drawn_are_refused() -> None:
    alien = replace(CAMVID, name="kitchen", classes=(SemanticClass(1, "cup", (0, 0, 0), True),))
    with pytest.raises(InputError, match="drawn: kitchen has none of the classes Sky, Building"):
        drawn_stills(2, alien)
    assert drawn_stills(0, alien) == []
