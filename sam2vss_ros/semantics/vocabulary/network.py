"""Patches and text as a dense prediction: weak, at the size of the patches."""

from __future__ import annotations

from torch import Tensor

from sam2vss_ros.semantics.vocabulary.text_model import Look, TextModel
from sam2vss_ros.semantics.vocabulary.words import Words
from sam2vss_ros.types import Frame

LEAST = 1e-4
"""Share of what is ruled out: unlikely, but not impossible."""


class VocabularyNetwork:
    """A `SegmentationNetwork` whose classes are words, and the last one none of them."""

    def __init__(self, model: TextModel, words: Words) -> None:
        assert words.naming is not None
        self.name = model.name
        self.catalog = words.classes
        self._model = model
        self._naming = words.naming

    def accepts(self, frame: Frame) -> bool:
        """Every frame has an image. A family that sees whole images only knows nothing of its
        parts: none of the words, everywhere."""
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of a frame, an entry for each patch."""
        return self.shares(self._model.look(frame.image)).clamp(min=LEAST).log().log_softmax(0)

    def shares(self, look: Look) -> Tensor:
        """(K, h, w) float32 shares of an image that was looked at."""
        patches = look.patches()
        if patches is None:
            return self._naming.nothing(1).T[:, :, None]
        shares = self._naming.shares(patches.flatten(1).T)
        return shares.T.reshape(-1, *patches.shape[1:])
