"""What class an object is, by all that it has looked like."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class ClassPosterior:
    """Class probabilities of one object over time: an exponential moving average of its evidence.

    classes: how many there are. fixed_class: the index of the class that a user gave, which no
    evidence changes. nothing: the index of the class that it has before any evidence; None: all are
    equally likely then.
    """

    def __init__(
        self, classes: int, fixed_class: int | None = None, nothing: int | None = None
    ) -> None:
        self._mean = torch.full((classes,), 1 / classes)
        if nothing is not None:
            self._mean = F.one_hot(torch.tensor(nothing), classes).float()
        self._count = 0
        self._fixed = fixed_class

    @property
    def given(self) -> bool:
        """Whether a user gave the class."""
        return self._fixed is not None

    def add(self, shares: Tensor, keep: float) -> None:
        """Take in one frame's (C,) evidence, summing to 1; `keep` is the share of the past.

        Early frames weigh equally, so that the first one does not stick.
        """
        self._count += 1
        keep = min(keep, 1 - 1 / self._count)
        self._mean = keep * self._mean + (1 - keep) * shares

    def renamed(self, old: Sequence[int], new: Sequence[int]) -> ClassPosterior:
        """The same in other classes, the last of which takes what has no counterpart.

        old, new: the ids of the classes in their order. Evidence begins anew; until it comes,
        what is known counts.
        """
        places = [new.index(id_) if id_ in new else len(new) - 1 for id_ in old]
        fixed = None
        if self._fixed is not None and old[self._fixed] in new:
            fixed = places[self._fixed]
        other = ClassPosterior(len(new), fixed)
        other._mean = torch.zeros(len(new)).index_add_(0, torch.tensor(places), self._mean)
        return other

    def probabilities(self) -> Tensor:
        """(C,) class probabilities, summing to 1."""
        if self._fixed is not None:
            return F.one_hot(torch.tensor(self._fixed), len(self._mean)).float()
        return self._mean
