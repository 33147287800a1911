"""The words of a run: set at any time, from any thread, and taken up frame by frame."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.errors import brief, few
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.vocabulary.entries import (
    PLACE,
    check_templates,
    parse_vocabulary,
)
from sam2vss_ros.semantics.vocabulary.ids import WordIds
from sam2vss_ros.semantics.vocabulary.text_model import TextModel
from sam2vss_ros.semantics.vocabulary.words import NEGATIVES, Words, make_words, with_version

log = logging.getLogger(__name__)


class Vocabulary:
    """A text model and the words that it gives at present.

    base: the fixed classes, which are published until there are words. ids: of this run.
    `words` is one instance until `set` makes another: who works with it holds on to it.
    """

    def __init__(
        self, model: TextModel, base: ClassCatalog, ids: WordIds, unlabelled_id: int
    ) -> None:
        self.model = model
        self.words = Words.fixed(base)
        self._base = base
        self._ids = ids
        self._unlabelled_id = unlabelled_id
        self._set: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._vectors: dict[tuple[str, str], Tensor] = {}  # by template and text
        self._lock = threading.Lock()

    def set(self, entries: Sequence[str], templates: Sequence[str]) -> None:
        """Take other words; nothing happens where they are those there are.

        Raises ValueError, and keeps the words, where one is refused, or none are given although
        there are some: the ids of the fixed classes may be theirs.
        """
        words = parse_vocabulary(entries)
        check_templates(templates)
        with self._lock:
            wanted = tuple(entries), tuple(templates)
            if wanted == self._set:
                return
            if not words:
                if self._set is not None:
                    raise ValueError(
                        "vocabulary: cannot become empty while it is in use: give at least one "
                        "name, or configure again without it"
                    )
                self._ids.claim(self._base)
                return
            texts = [text for word in words for text in word.texts]
            vectors = self._vectors_of([*texts, *NEGATIVES], templates)
            ids = self._ids.give([word.name for word in words], self._unlabelled_id)
            made = make_words(
                words, ids, self._base, self._unlabelled_id, vectors, self.model.scale
            )
            made.catalog.label_dtype(self._unlabelled_id)
            self.words = with_version(made, self._ids.version_of(made.catalog.classes))
            self._set = wanted
            self._warn(texts, vectors)

    def _vectors_of(self, texts: Sequence[str], templates: Sequence[str]) -> dict[str, Tensor]:
        """(D,) unit vectors of texts: the mean over templates of unit vectors. What the tokenizer
        does not know has none."""
        model = self.model
        usable = [t for t in templates if t == PLACE or model.knows(t.replace(PLACE, " "))]
        if len(usable) < len(templates):
            rest = few(repr(t) for t in templates if t not in usable)
            log.warning(
                "text_model %s does not know all words of the templates %s: they are left out",
                model.name,
                rest,
            )
        known = [text for text in dict.fromkeys(texts) if model.knows(text)]
        pairs = [(template, text) for template in usable or [PLACE] for text in known]
        new = [pair for pair in pairs if pair not in self._vectors]
        if new:
            made = model.texts([template.replace(PLACE, text) for template, text in new])
            self._vectors |= zip(new, made, strict=True)
        self._vectors = {pair: self._vectors[pair] for pair in pairs}
        return {
            text: F.normalize(
                torch.stack([v for (_, t), v in self._vectors.items() if t == text]).mean(0), dim=0
            )
            for text in known
        }

    def _warn(self, texts: Sequence[str], vectors: dict[str, Tensor]) -> None:
        unknown = [text for text in texts if text not in vectors]
        if unknown:
            log.warning(
                "vocabulary: text_model %s does not know %s: nothing will be called so",
                self.model.name,
                few(brief(repr(text)) for text in unknown),
            )
        if max(self.words.catalog.ids) > 255:
            log.warning(
                "vocabulary: ids are used up to %d, so labels have 16 bits from now on",
                max(self.words.catalog.ids),
            )
