"""The classes of a stream's answers: those of the semantics, or words, and how words are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, distinct_color
from sam2vss_ros.semantics.vocabulary.entries import Word

NOTHING = "<none of these>"
"""Name of the last class of answers in words; no word can have it."""

NEGATIVES = ("background", "stuff")
"""What else an image may show: a name is believed against these, too."""

MARGIN = 0.1
"""By how much a name must be likelier than the next, else nothing is believed."""


@dataclass(frozen=True, eq=False)
class Words:
    """The classes of answers, which never change; new words are another instance.

    catalog: those that are published. classes: those that posteriors and dense predictions are
    over: the same, and with words one more, the last: what is none of them has the id of
    unlabelled. naming: how words are given, None where the classes are fixed.
    """

    catalog: ClassCatalog
    classes: ClassCatalog
    naming: Naming | None = None

    @property
    def things(self) -> npt.NDArray[np.bool_]:
        """Which of `classes` are countable."""
        return self.classes.things

    @property
    def stuff(self) -> npt.NDArray[np.bool_]:
        """Which of `classes` are known and not countable."""
        stuff = ~self.classes.things
        return stuff if self.naming is None else stuff & (np.arange(len(stuff)) < len(stuff) - 1)

    @staticmethod
    def fixed(catalog: ClassCatalog) -> Words:
        """The classes of the semantics or of a network."""
        return Words(catalog, catalog)


@dataclass(frozen=True, eq=False)
class Naming:
    """How features in text space become shares of K words, and of none of them.

    vectors: (R, D) unit vectors of names, synonyms and negatives. rows: (R,) int64, the word that
    each is of; K for negatives. scale: of cosines. same: (K, C) 0 or 1, which of the C fixed
    classes has the name of which word.
    """

    vectors: Tensor
    rows: Tensor
    scale: float
    same: Tensor

    def shares(self, features: Tensor) -> Tensor:
        """(N, D) features of anything -> (N, K + 1) shares of the words, and of none of them.

        Of a name and its synonyms the best counts. Where no word is `MARGIN` likelier than all
        else, and where a feature is 0, it is none of them.
        """
        cosines = F.normalize(features.float(), dim=1) @ self.vectors.T
        count = len(self.same) + 1
        best = cosines.new_full((len(features), count), -torch.inf)
        best = best.scatter_reduce(1, self.rows.expand_as(cosines), cosines, "amax")
        shares = (self.scale * best).softmax(1)
        first, second = shares.topk(2, 1).values.unbind(1)
        believed = (first - second >= MARGIN) & features.any(1)
        return torch.where(believed[:, None], shares, self.nothing(len(features)))

    def nothing(self, count: int) -> Tensor:
        """(count, K + 1) shares: none of the words."""
        shares = self.vectors.new_zeros(count, len(self.same) + 1)
        shares[:, -1] = 1.0
        return shares

    def join(self, fixed: Tensor, text: Tensor, familiar: float) -> Tensor:
        """(K + 1, ...) shares by both: what the fixed classes say of words that are theirs, too,
        stands as far as the scene is familiar to them; the rest is given out as the text says.

        fixed: (C, ...) shares of the fixed classes. text: (K + 1, ...), as of `shares`.
        """
        known = familiar * torch.einsum("kc,c...->k...", self.same.to(fixed.dtype), fixed)
        joined = (1 - known.sum(0)).clamp(min=0) * text
        joined[:-1] += known
        return joined


def make_words(
    words: Sequence[Word],
    ids: Sequence[int],
    base: ClassCatalog,
    unlabelled_id: int,
    vectors: dict[str, Tensor],
    scale: float,
) -> Words:
    """Words in their order, with these ids.

    base: the fixed classes; a word with the name of one (capitals do not count) has its colour, and
    is countable where that is; others are. vectors: (D,) unit vectors of names, synonyms and
    negatives, without those that the text model does not know.
    """
    namesakes = {known.name.casefold(): known for known in base.classes}
    classes = []
    for word, id_ in zip(words, ids, strict=True):
        known = namesakes.get(word.name.casefold())
        color = known.color if known else distinct_color(id_)
        classes.append(SemanticClass(id_, word.name, color, known.thing if known else True))
    catalog = ClassCatalog("vocabulary", tuple(classes))
    nothing = SemanticClass(unlabelled_id, NOTHING, (0, 0, 0), False)
    rows = [(i, text) for i, word in enumerate(words) for text in word.texts if text in vectors]
    taken = {text.casefold() for word in words for text in word.texts}
    rows += [(len(words), n) for n in NEGATIVES if n in vectors and n not in taken]
    same = torch.zeros(len(words), len(base))
    for i, word in enumerate(words):
        for text in word.texts:
            if text.casefold() in namesakes:
                same[i, base.classes.index(namesakes[text.casefold()])] = 1
    some = next(iter(vectors.values()))
    naming = Naming(
        torch.stack([vectors[text] for _, text in rows]) if rows else some.new_zeros(0, len(some)),
        torch.tensor([i for i, _ in rows], dtype=torch.int64, device=some.device),
        scale,
        same.to(some.device),
    )
    return Words(catalog, ClassCatalog("answers", (*classes, nothing)), naming)


def with_version(words: Words, version: int) -> Words:
    """The same words under a version of their catalog."""
    return dataclasses.replace(words, catalog=dataclasses.replace(words.catalog, version=version))
