"""Ids of words: by position at first, and never given to another word while a program runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog


class WordIds:
    """Which id a name has, and how often the classes have changed.

    A name that is taken out keeps its id: nobody else gets it, and it is there when the name
    comes back. Capitals do not count. version: 0 until there are classes.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._last: object = None
        self.version = 0

    def claim(self, catalog: ClassCatalog) -> None:
        """The ids of these classes are theirs from now on."""
        for known in catalog.classes:
            self._ids.setdefault(known.name.casefold(), known.id)

    def give(self, names: Sequence[str], unlabelled_id: int) -> list[int]:
        """The ids of names, new ones for those that had none.

        Raises ValueError where none is left for this run.
        """
        used = {*self._ids.values(), unlabelled_id}
        free = (i for i in itertools.count() if i not in used)
        new = {name.casefold(): next(free) for name in names if name.casefold() not in self._ids}
        if new and max(new.values()) >= IMAGE_ID_LIMIT:
            raise ValueError("vocabulary: all ids of label images are used up: start again")
        self._ids |= new
        return [self._ids[name.casefold()] for name in names]

    def version_of(self, classes: object) -> int:
        """The version of a catalog of these classes: one more where they are not the last ones."""
        if classes != self._last:
            self._last = classes
            self.version += 1
        return self.version
