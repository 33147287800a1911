"""Messages in one line: what strangers wrote, and the reasons of libraries."""

from __future__ import annotations

import pytest

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import (
    LONGEST_MESSAGE,
    LONGEST_QUOTE,
    ImageError,
    InputError,
    ModelUnavailableError,
    NetworkError,
    one_line,
    reason_of,
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as it is", "as it is"),
        (" two\n lines\tand  a tab ", "two lines and a tab"),
        ("red \x1b[31m and a bell \x07", r"red \x1b[31m and a bell \x07"),
        ("backwards \u202e", r"backwards \u202e"),
        ("Straße 道路", "Straße 道路"),
        (7, "7"),
        ("", ""),
    ],
)
def test_a_text_is_one_line_of_what_can_be_shown(text: object, line: str) -> None:
    assert one_line(text) == line


def test_of_a_long_text_begin_and_end_are_kept() -> None:
    line = one_line("begin " + "x" * 1_000_000 + " end")
    assert len(line) == LONGEST_QUOTE
    assert line.startswith("begin xxx") and line.endswith("xxx end") and " ... " in line
    assert len(one_line("\x00" * 1000)) == LONGEST_QUOTE, "also once it is escaped"
    assert one_line("x" * 40, 40) == "x" * 40
    assert len(one_line("x" * 41, 40)) == 40


@pytest.mark.parametrize(
    "error",
    [
        InputError("y\n" * 10**6),
        ImageError("unknown encoding", "y\n" * 10**6),
        ModelUnavailableError("y\n" * 10**6),
        NetworkError("y\n" * 10**6),
    ],
)
def test_no_error_that_is_shown_is_longer_than_a_message(error: Exception) -> None:
    assert len(str(error)) == LONGEST_MESSAGE
    assert "\n" not in str(error)


def test_a_wrong_value_is_named_not_repeated() -> None:
    for values in ({"mode": "x" * 10**6}, {"max_objects": "x" * 10**6}, {"x" * 10**6: 1}):
        with pytest.raises((TypeError, ValueError)) as caught:
            PipelineConfig.from_mapping(values)
        assert len(str(caught.value)) < 2 * LONGEST_MESSAGE


def test_the_reason_is_the_last_line_without_the_traceback() -> None:
    torchscript = (
        "The following operation failed in the TorchScript interpreter.\n"
        "Traceback of TorchScript, serialized code (most recent call last):\n"
        '  File "code/__torch__.py", line 5, in forward\n'
        "RuntimeError: Sizes of tensors must match except in dimension 1.\n"
    )
    assert reason_of(RuntimeError(torchscript)) == (
        "Sizes of tensors must match except in dimension 1."
    )
    assert reason_of(OSError("no such place: here")) == "no such place: here"
    assert reason_of(MemoryError()) == "MemoryError"
