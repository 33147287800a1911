"""What a new user is told of the most likely mistakes, each of which is really made."""

from __future__ import annotations

import functools
import os

import pytest

from mistakes import DOCUMENT, HEADER, MISTAKES, Mistake, make, row

each = pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.what)
said = functools.cache(make)


@each
def test_the_message_says_what_is_wrong_and_what_to_do(mistake: Mistake) -> None:
    message = said(mistake)
    missing = [words for words in mistake.says if words not in message]
    assert not missing, f"{missing} not in: {message}"
    assert "Traceback" not in message
    assert len(message) < 1000, message


@each
@pytest.mark.skipif("ROS_DISTRO" in os.environ, reason="the table is that of ROS 2 from wheels")
def test_the_table_of_the_document_is_the_printed_one(mistake: Mistake) -> None:
    table = DOCUMENT.read_text(encoding="utf-8").partition(HEADER)[2].partition("\n\n")[0]
    rows = {line.split(" | ")[0]: f"{line}\n" for line in table.splitlines()}
    command = "run: python test/support/mistakes.py --write"
    assert rows.get(f"| {mistake.what}") == row(mistake, said(mistake)), command
    assert len(rows) == len(MISTAKES), command
