"""Options, frames, prompts: what goes in is checked, and the message names what is wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import yaml

from sam2vss_ros.config import OPTIONS, NodeConfig, PipelineConfig
from sam2vss_ros.options import Value, options_of, read_as
from sam2vss_ros.types import Frame, Prompt, instance_value


def test_defaults_are_allowed_and_every_option_is_described() -> None:
    PipelineConfig()
    NodeConfig()
    for name, (default, limits) in OPTIONS.items():
        assert len(limits.description) > 10, name
        assert not limits.choices or default in limits.choices, name
        if limits.low is not None and limits.high is not None:
            assert isinstance(default, int | float) and limits.low <= default <= limits.high, name


def config_of(name: str) -> type[Any]:
    """The configuration that has the option."""
    return PipelineConfig if name in options_of(PipelineConfig) else NodeConfig


@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_of_another_type_is_refused_by_name(name: str) -> None:
    default, limits = OPTIONS[name]
    config = config_of(name)
    kind = type(default).__name__
    if isinstance(default, tuple):
        kind = "list of texts" if limits.verify else "list of names"
    lists = [] if isinstance(default, tuple) else [[default]]
    number = type(default) is bool or "on" in limits.choices  # which True may mean
    for wrong in (None, *lists, 1 if number else True):
        with pytest.raises(TypeError, match=rf"^{name}: .* takes a {kind}\b") as caught:
            config(**{name: wrong})
        for choice in limits.choices:
            assert choice in str(caught.value)


@pytest.mark.parametrize("name", [name for name, (_, o) in OPTIONS.items() if o.choices])
def test_what_yaml_makes_of_a_word_is_the_word_or_is_named(name: str) -> None:
    """`discovery: off` is False in YAML, and `carry: on` True."""
    for text in ("off", "no", "on", "yes", "true", "false", "1", "1.5", "null"):
        value = yaml.safe_load(text)
        word = {False: "off", True: "on"}.get(value) if isinstance(value, bool) else None
        if word in OPTIONS[name][1].choices:
            assert getattr(config_of(name)(**{name: value}), name) == word
            continue
        with pytest.raises(TypeError, match=rf"^{name}: {value} is a .* takes a str: one of"):
            config_of(name)(**{name: value})


def test_how_to_write_a_word_that_yaml_does_not_leave_alone() -> None:
    for wrong, said in (
        ({"checkpoint": 7}, r"checkpoint: 7 is a int, it takes a str \(put it in quotes\)"),
        ({"classes": False}, r"\(YAML reads off, no, false as False; put a word in quotes\)"),
        ({"max_objects": True}, r"it takes a int \(YAML reads on, yes, true as True\)"),
    ):
        with pytest.raises(TypeError, match=said):
            PipelineConfig(**wrong)  # type: ignore[arg-type]


def test_no_more_than_a_line_is_repeated_of_what_somebody_wrote() -> None:
    long = "x" * 1_000_000
    for config, name, value in (
        (PipelineConfig, "mode", long),
        (PipelineConfig, "max_objects", long),
        (PipelineConfig, "model", [long] * 1000),
        (NodeConfig, "cameras", [long + "."]),
        (NodeConfig, "cameras", [long, long]),
        (PipelineConfig, long, 1),
    ):
        with pytest.raises((ValueError, TypeError)) as caught:
            config.from_mapping({name: value})
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("cameras", "said"),
    [
        (["front", "front"], "cameras: front, front: each name counts once"),
        (["front cam"], "cameras: 'front cam' is no name"),
        (["1st"], "cameras: '1st' is no name"),
        ([3], "cameras: 3 is no name"),
    ],
)
def test_names_that_do_not_do_are_refused(cameras: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        NodeConfig(cameras=cameras)


def test_a_list_becomes_a_tuple() -> None:
    assert NodeConfig(cameras=["front", "rear_2"]).cameras == ("front", "rear_2")  # type: ignore


@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_beyond_the_limits_is_refused_by_name(name: str) -> None:
    default, limits = OPTIONS[name]
    config = config_of(name)
    kind: Any = type(default)
    wrong: list[Any] = []
    if limits.choices:
        wrong.append("no such choice")
    step = 1 if isinstance(default, int) else 1e-6
    if limits.low is not None:
        wrong.append(kind(limits.low) - step)
        config(**{name: kind(limits.low)})
    if limits.high is not None:
        wrong.append(kind(limits.high) + step)
        config(**{name: kind(limits.high)})
    if isinstance(default, float):
        wrong += [math.nan, math.inf, -math.inf]
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{name}: ") as caught:
            config(**{name: value})
        for choice in limits.choices:
            assert choice in str(caught.value)


def test_an_integer_is_a_fine_float_but_not_the_reverse() -> None:
    config = PipelineConfig(min_area=0)
    assert config.min_area == 0.0 and type(config.min_area) is float
    with pytest.raises(TypeError, match="max_objects"):
        PipelineConfig(max_objects=4.0)  # type: ignore[arg-type]


def test_from_mapping_refuses_an_unknown_name_and_lists_the_known() -> None:
    assert PipelineConfig.from_mapping({"mode": "refine"}).mode == "refine"
    with pytest.raises(ValueError, match=r"^max_object: no such option; .*max_objects"):
        PipelineConfig.from_mapping({"max_object": 3})


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        [[[1, 2, 3]]],
    ],
)
def test_a_frame_is_rgb_bytes(image: Any) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        Frame(image, 1)


POINT = np.array([[3, 4]], np.float32)
ONE = np.array([1], np.int32)
MASK = np.ones((4, 5), bool)


def test_good_prompts() -> None:
    Prompt(points=POINT, point_labels=ONE)
    Prompt(points=np.vstack([POINT, POINT]), point_labels=np.array([0, 1], np.int32))
    Prompt(box=(0, 0, 4, 3))
    Prompt(mask=MASK, class_id=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "points, a box or a mask"),
        ({"box": (0, 0, 1, 1), "mask": MASK}, r"\['box', 'mask'\]"),
        ({"points": POINT}, "needs a label"),
        ({"points": POINT, "point_labels": np.array([1, 1], np.int32)}, "needs a label"),
        ({"points": POINT, "point_labels": np.array([2], np.int32)}, "0 or 1"),
        ({"points": POINT, "point_labels": np.array([0], np.int32)}, "at least one 1"),
        ({"points": POINT[0], "point_labels": ONE}, r"\(N, 2\)"),
        ({"points": np.zeros((0, 2), np.float32), "point_labels": ONE[:0]}, r"\(N, 2\)"),
        ({"box": (4, 0, 4, 3)}, "x0 < x1"),
        ({"box": (0, 3, 4, 0)}, "x0 < x1"),
        ({"box": (0, 0, math.nan, 3)}, "x0 < x1"),
        ({"mask": np.zeros((4, 5), bool)}, "at least one pixel"),
        ({"mask": np.ones((4, 5, 1), bool)}, "height, width"),
    ],
)
def test_bad_prompts(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompt(**fields)


def test_instance_values_stay_within_16_bits_and_off_zero() -> None:
    assert [instance_value(i) for i in (1, 2, 65535, 65536, 65537, 131071)] == [
        1, 2, 65535, 1, 2, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        (False, "true", True),
        (True, "False", False),
        (1, "12", 12),
        (0.5, "2", 2.0),
        ("", "a", "a"),
        ((), "a,b", ("a", "b")),
    ],
)
def test_words_of_a_command_line_become_values(default: Value, text: str, value: Value) -> None:
    read = read_as(default)(text)
    assert read == value and type(read) is type(default)
