"""Seeded damage to bytes and to YAML: what links, disks, editors and strangers do to them.

The same seed makes the same damage, so that what fails can be looked at again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

EXTREMES = [0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1]
"""Integers at the edges of their types."""

STRANGE_VALUES = [
    *("", "~", "-1", "1.7", "256", "65536", "9" * 40, "1e999", ".inf", "-.inf", ".nan", "0x1F"),
    *(
        "yes",
        "off",
        "[]",
        "{}",
        "[[[[]]]]",
        "'",
        '"',
        "- ",
        ": ",
        "*unknown",
        "&a [*a, *a]",
        "!!set",
    ),
    *("2026-11-26", "!!binary aGVsbG8=", "!!python/object/apply:os.getpid []", "\x00", "\u202eдом"),
    *("x" * 3000, "[" * 200, "? ", "<<: {}", "%YAML 9.9", "---", "\t", "#"),
]
"""What may stand where YAML has a value or a name."""

EDGE = 256
"""Bytes at the beginning and at the end of a file, where its headers and tables are."""


class Mutations:
    """An endless source of damaged data.

    samples: whole data of one kind, none of it empty; several may be spliced.
    """

    def __init__(self, samples: Sequence[bytes], seed: int) -> None:
        self._samples = samples
        self._random = random.Random(seed)
        self._kinds = (
            self._flip_bits,
            self._truncate,
            self._delete_span,
            self._duplicate_span,
            self._repeat_block,
            self._write_extreme,
            self._splice,
        )

    def take(self, count: int) -> Iterator[bytes]:
        """So many samples, each damaged one to three times."""
        for _ in range(count):
            data = bytearray(self._random.choice(self._samples))
            for _ in range(self._random.choice((1, 1, 2, 3))):
                self._random.choice(self._kinds)(data)
            yield bytes(data)

    def _place(self, data: bytearray) -> int:
        """Anywhere, or as often near the beginning, and near the end."""
        last = max(0, len(data) - 1)
        place = self._random.randint(0, last)
        return self._random.choice((place, min(place, place % EDGE), max(0, last - place % EDGE)))

    def _span(self, data: bytearray) -> slice:
        """Of one byte up to a quarter of the data; short ones are as likely as long ones."""
        longest = max(1, len(data) // 4)
        length = min(longest, 1 << self._random.randint(0, longest.bit_length()))
        start = self._place(data)
        return slice(start, start + length)

    def _flip_bits(self, data: bytearray) -> None:
        for _ in range(self._random.choice((1, 2, 8, 64)) if data else 0):
            data[self._place(data)] ^= 1 << self._random.randrange(8)

    def _truncate(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _delete_span(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _duplicate_span(self, data: bytearray) -> None:
        span = self._span(data)
        data[span.start : span.start] = data[span]

    def _repeat_block(self, data: bytearray) -> None:
        span = self._span(data)
        data[span.start : span.start] = data[span][:64] * self._random.randint(2, 32)

    def _write_extreme(self, data: bytearray) -> None:
        size = self._random.choice((1, 2, 4, 8))
        value = self._random.choice(EXTREMES) % (1 << 8 * size)
        start = self._place(data) // size * size  # where a field of this size may stand
        order = self._random.choice(("little", "big"))
        data[start : start + size] = value.to_bytes(size, "little" if order == "little" else "big")

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._samples)
        span = self._span(bytearray(other))
        data[self._span(data)] = other[span]


class YamlMutations:
    """An endless source of YAML that people, editors and strangers have spoilt.

    text: a whole file of YAML.
    """

    def __init__(self, text: str, seed: int) -> None:
        self._text = text
        self._random = random.Random(seed)
        self._bytes = Mutations([text.encode()], seed)

    def take(self, count: int) -> Iterator[bytes]:
        """So many files; one of four is damaged as bytes, the others in their words and lines."""
        for damaged in self._bytes.take(count):
            if self._random.random() < 0.25:
                yield damaged
            else:
                yield self._spoil().encode("utf-8")

    def _spoil(self) -> str:
        text = self._text
        for _ in range(self._random.choice((1, 1, 2, 4))):
            text = self._random.choice((self._replace_word, self._move_line))(text)
        return text

    def _replace_word(self, text: str) -> str:
        words = list(re.finditer(r"[\w.#-]+", text))
        if not words:
            return text
        word = self._random.choice(words)
        value = self._random.choice(STRANGE_VALUES)
        return text[: word.start()] + value + text[word.end() :]

    def _move_line(self, text: str) -> str:
        """Leave a line out, put it elsewhere, say it twice, or indent it."""
        lines = text.splitlines()
        if not lines:
            return text
        line = lines.pop(self._random.randrange(len(lines)))
        place = self._random.randint(0, len(lines))
        lines[place:place] = self._random.choice(([], [line], [line, line], [f"   {line}"]))
        return "\n".join(lines) + "\n"
