"""The options `vocabulary` and `templates`: how names are written, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam2vss_ros.errors import LONGEST_NAME, brief

MOST_WORDS = 254
"""Names at a time: all that a label image of 8 bits holds beside unlabelled, and one to spare."""

MOST_TEXTS = 2048
"""Names and synonyms at a time."""

MOST_TEMPLATES = 100

LONGEST_TEMPLATE = 200
"""Characters; text models read a sentence or two."""

PLACE = "{}"
"""Where a template takes the name."""

NOT_IN_NAMES = "=,;|{}[]<>"

FORM = "an entry is a name, or name=synonym,synonym"


@dataclass(frozen=True)
class Word:
    """A class by its name, and what else it is called."""

    name: str
    synonyms: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


def parse_vocabulary(entries: Sequence[str]) -> tuple[Word, ...]:
    """The words of the option `vocabulary`: each a name, or `name=synonym,synonym`.

    Raises ValueError naming the entry that is empty, there twice, too long or written otherwise.
    """
    if len(entries) > MOST_WORDS:
        raise ValueError(f"vocabulary: {len(entries)} names; {MOST_WORDS} at most")
    words = tuple(_parse_word(entry) for entry in entries)
    texts = [text for word in words for text in word.texts]
    if len(texts) > MOST_TEXTS:
        raise ValueError(f"vocabulary: {len(texts)} names and synonyms; {MOST_TEXTS} at most")
    seen: set[str] = set()
    for text in texts:
        if text.casefold() in seen:
            raise ValueError(
                f"vocabulary: {brief(repr(text))} is there twice (capitals do not count): each "
                "name and synonym counts once"
            )
        seen.add(text.casefold())
    return words


def _parse_word(entry: str) -> Word:
    name, equals, rest = entry.partition("=")
    synonyms = rest.split(",") if equals else []
    return Word(_parse_name(name, entry), tuple(_parse_name(s, entry) for s in synonyms))


def _parse_name(text: str, entry: str) -> str:
    name = " ".join(text.split())
    if not name:
        raise ValueError(f"vocabulary: {brief(repr(entry))} has an empty name: {FORM}")
    wrong = next((c for c in name if c in NOT_IN_NAMES or not c.isprintable()), None)
    if wrong is not None:
        several = "; several names are several entries" if wrong in ",;" else ""
        raise ValueError(
            f"vocabulary: {brief(repr(entry))}: a name has no {brief(repr(wrong))}: {FORM}{several}"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"vocabulary: {brief(repr(entry))} has {len(name)} characters; a name has at most "
            f"{LONGEST_NAME}"
        )
    return name


def check_templates(templates: Sequence[str]) -> None:
    """Raise ValueError where a sentence of the option `templates` has no one place for a name."""
    if not 0 < len(templates) <= MOST_TEMPLATES:
        raise ValueError(f"templates: from 1 to {MOST_TEMPLATES} sentences, not {len(templates)}")
    for template in templates:
        if template.count(PLACE) != 1 or not template.isprintable():
            raise ValueError(
                f"templates: {brief(repr(template))} is no sentence with one {PLACE} for the name, "
                "as in 'a photo of a {}'; on a command line ; divides them"
            )
        if len(template) > LONGEST_TEMPLATE:
            raise ValueError(
                f"templates: {brief(repr(template))} has {len(template)} characters; "
                f"{LONGEST_TEMPLATE} at most"
            )
