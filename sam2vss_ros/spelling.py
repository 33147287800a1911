"""Names that are written wrong: which one may be meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

ALIKE = 0.72
"""Likeness, from 0 to 1, from which a name may be meant."""

LONGEST, MOST_PARTS = 80, 3
"""Letters of a word and parts of a name that are looked at."""

PART = 0.9
"""What likeness to a part of a name counts for."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`; empty where none is.

    Of a name in groups, as camera.fps, the last part that is like a known one counts.
    """
    names = list(known)
    for word in reversed(name.split(".")[-MOST_PARTS:]):
        word = word.replace("-", "_").lower()[:LONGEST]
        likeness, best = max((_likeness(word, other), other) for other in names)
        if likeness >= ALIKE:
            return best
    return ""


def _likeness(word: str, other: str) -> float:
    """Of a word to a name, or to one of its parts, as of fps to target_fps."""
    parts = max(_alike(word, part) for part in other.split("_"))
    return max(_alike(word, other), PART * parts)


def _alike(word: str, other: str) -> float:
    """By the order of the letters, and by the letters alone: two may have changed places."""
    ratios = (
        SequenceMatcher(None, word, other).ratio(),
        SequenceMatcher(None, sorted(word), sorted(other)).ratio(),
    )
    return sum(ratios) / 2
