"""What a model of images and text is to the rest: an image in, features in the space of its texts.

Whatever the family, `look` gives an image's patch features and pools them inside masks, `texts`
gives vectors of sentences, and the cosine of the two says how well they go together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.semantics.networks.inputs import Input

Image = npt.NDArray[np.uint8]

LEAST_PATCHES = 2.0
"""Masks that cover less are looked at in a crop of their own: a patch mixes what it shows."""

MOST_CROPS = 8
"""Crops per image; further small masks are pooled as they are."""

ROOM = 2.0
"""Side of a crop, of that of the object's box: context tells what it is."""

TEXTS_AT_ONCE = 64

LARGEST_SCALE = 50.0
"""Of cosines before the softmax. Models learn up to 100 and more for whole images; features of
their parts are less far apart (Xiao et al., "TextRegion", 2025)."""


class Look(ABC):
    """An image as a model sees it."""

    @abstractmethod
    def patches(self) -> Tensor | None:
        """(D, h, w) float32 in text space, of a grid over the whole image; None where the family
        sees whole images only."""

    @abstractmethod
    def pool(self, masks: Tensor) -> Tensor:
        """(B, D) float32 unit vectors of what (B, h, w) bool masks show. An empty mask has 0."""


class TextModel(ABC):
    """A model with a text tower, ready for inference.

    name: what the user called it. scale: of cosines before a softmax. model, tokenizer: of the
    library transformers. prepare: how it wants images.
    """

    lower_case = False
    """Whether it was trained on text without capitals that its tokenizer leaves as they are."""

    padded = True
    """Whether texts are padded to the longest that the model takes, as in its training."""

    def __init__(
        self, name: str, model: nn.Module, tokenizer: Any, prepare: Input, device: torch.device
    ) -> None:
        self.name = name
        self.device = device
        self.model: Any = model
        self.prepare = prepare
        self._tokenizer = tokenizer
        self.scale = min(self.learned_scale(), LARGEST_SCALE)

    @abstractmethod
    def look(self, image: Image) -> Look:
        """See an (H, W, 3) RGB image."""

    def learned_scale(self) -> float:
        """Of cosines, as the model was trained."""
        return float(self.model.logit_scale.detach().exp())

    def knows(self, text: str) -> bool:
        """Whether the tokenizer has a token for all of a text."""
        unknown = self._tokenizer.unk_token_id
        tokens = self._tokenizer(self._spelt(text), add_special_tokens=False)["input_ids"]
        return bool(tokens) and (unknown is None or unknown not in tokens)

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """(N, D) float32 unit vectors of sentences, at least one."""
        parts = []
        with torch.inference_mode():
            for i in range(0, len(sentences), TEXTS_AT_ONCE):
                tokens = self._tokens(sentences[i : i + TEXTS_AT_ONCE])
                parts.append(vector_of(self.model.get_text_features(**tokens)))
        return F.normalize(torch.cat(parts).float(), dim=1)

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(t.nbytes for t in (*self.model.parameters(), *self.model.buffers()))

    def _tokens(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        config = self.model.config.text_config
        longest = getattr(config, "max_position_embeddings", None)
        tokens = self._tokenizer(
            [self._spelt(s) for s in sentences],
            padding="max_length" if self.padded and longest else True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
        )
        wanted = ("input_ids", "attention_mask")
        return {k: tokens[k].to(self.device) for k in wanted if k in tokens and self._takes(k)}

    def _takes(self, name: str) -> bool:
        return True

    def _spelt(self, text: str) -> str:
        return text.lower() if self.lower_case else text


def vector_of(output: Any) -> Tensor:
    """The vectors of `get_text_features` or `get_image_features`; an object since transformers 5,
    before that the tensor itself."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def soft_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) bool -> (B, *grid) float32, the share of each patch that a mask covers."""
    return F.adaptive_avg_pool2d(masks.float()[:, None], grid)[:, 0]


def crop_around(image: Image, mask: Tensor, room: float = ROOM) -> tuple[Image, Tensor]:
    """The square around an object that is `room` times its box, as far as it is in the image, and
    the mask (h', w') there. mask: (h, w) bool, not empty, over the whole image."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    half = room * max(y1 - y0, x1 - x0) / 2
    y, x = (y0 + y1) / 2, (x0 + x1) / 2
    top, bottom = max(0, int(y - half)), min(mask.shape[0], int(np.ceil(y + half)))
    left, right = max(0, int(x - half)), min(mask.shape[1], int(np.ceil(x + half)))
    down, across = image.shape[0] / mask.shape[0], image.shape[1] / mask.shape[1]
    first, last = int(top * down), max(int(top * down) + 1, round(bottom * down))
    begin, end = int(left * across), max(int(left * across) + 1, round(right * across))
    return image[first:last, begin:end], mask[top:bottom, left:right]


def without_surroundings(image: Image, mask: Tensor) -> Image:
    """The image with everything but an object in its mean colour."""
    inside = cv2.resize(
        mask.cpu().numpy().astype(np.uint8),
        (image.shape[1], image.shape[0]),
        interpolation=cv2.INTER_NEAREST,
    ).astype(bool)
    if not inside.any():
        return image
    plain = np.empty_like(image)
    plain[:] = image[inside].mean(0)
    plain[inside] = image[inside]
    return plain
