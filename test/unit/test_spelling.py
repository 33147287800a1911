"""Names that are written wrong: which one is meant."""

from __future__ import annotations

import pytest

from sam2vss_ros.config import OPTIONS
from sam2vss_ros.options import what_is_meant
from sam2vss_ros.spelling import nearest


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("modle", "model"),  # though mode is a letter away, too
        ("mod", "mode"),
        ("chekpoint", "checkpoint"),
        ("max_object", "max_objects"),
        ("Max-Objects", "max_objects"),
        ("fps", "target_fps"),
        ("width", "output_width"),
        ("reliability", "input_reliability"),
        ("camera.fps", "target_fps"),
        ("camera.width", "output_width"),
        ("tracker.max_objects", "max_objects"),
        ("model.name", "model"),
    ],
)
def test_a_parameter_that_is_meant(written: str, meant: str) -> None:
    assert nearest(written, OPTIONS) == meant
    assert what_is_meant(written, OPTIONS) == f"do you mean {meant}?"


@pytest.mark.parametrize("name", OPTIONS)
def test_two_letters_that_changed_places(name: str) -> None:
    for i in range(len(name) - 1):
        written = name[:i] + name[i + 1] + name[i] + name[i + 2 :]
        assert nearest(written, OPTIONS) == name


@pytest.mark.parametrize("written", ["", ".", "x", "weights", "qqqq", "x" * 100_000, "a." * 5000])
def test_nothing_is_made_up(written: str) -> None:
    assert nearest(written, OPTIONS) == ""
    assert what_is_meant(written, OPTIONS) == "`sam2vss config table` lists all there are"
