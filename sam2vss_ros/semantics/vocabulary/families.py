"""One adapter per family: where its patches meet its texts is proven for each, never assumed.

tipsv2      trained so that patch tokens agree with texts: the tokens as they are
siglip      an attention-pooling head makes the vector: the object's mask is its key mask
clip        the class token alone meets texts: the value path of the last block, in which a patch
            speaks for itself (Zhou et al., "Extract Free Dense Labels from CLIP", 2022); patches
            that speak for the whole image are left out (Xiao et al., "TextRegion", 2025)
any other   crops of the object's box, as they are and without what surrounds it
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.semantics.vocabulary.text_model import (
    LEAST_PATCHES,
    MOST_CROPS,
    Image,
    Look,
    TextModel,
    crop_around,
    soft_masks,
    vector_of,
    without_surroundings,
)

GLOBAL = 0.07
"""A patch speaks for the whole image where it is not this much (cosine) more like the patches of
its own object than like the others."""


class PatchModel(TextModel):
    """A family whose patches can be brought into text space.

    Its tokens are (1, N, C), row by row over a grid.
    """

    def look(self, image: Image) -> Look:
        return PatchLook(self, image)

    def tokens(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens of (1, 3, h, w) pixels, and the rows and columns of their grid."""
        raise NotImplementedError

    def project(self, tokens: Tensor) -> Tensor:
        """Each of (1, N, C) tokens in text space: (N, D)."""
        raise NotImplementedError

    def pooled(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """(B, D) of what masks show, by (B, N) weights of the tokens, none of which is all 0."""
        raise NotImplementedError

    def grid_of(self, pixels: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of an image."""
        patch = self.model.config.vision_config.patch_size
        return pixels.shape[-2] // patch, pixels.shape[-1] // patch


class PatchLook(Look):
    """An image as tokens; small masks are looked at again, in a crop."""

    def __init__(self, model: PatchModel, image: Image) -> None:
        self._model, self._image = model, image
        self._tokens, self._grid = model.tokens(model.prepare.tensor(image, model.device))

    def patches(self) -> Tensor:
        features = self._model.project(self._tokens).float()
        return features.T.reshape(-1, *self._grid)

    def pool(self, masks: Tensor) -> Tensor:
        vectors, covered = self._pool(masks)
        small = [i for i, area in enumerate(covered.tolist()) if 0 < area < LEAST_PATCHES]
        for i in small[:MOST_CROPS]:
            image, mask = crop_around(self._image, masks[i])
            closer = PatchLook(self._model, image)
            vectors[i] = closer._pool(mask[None])[0][0]
        return vectors

    def _pool(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) unit vectors, and how many patches each mask covers, (B,)."""
        weights = soft_masks(masks, self._grid).flatten(1)
        covered = weights.sum(1)
        shown = covered > 0
        weights[~shown] = 1.0  # of an empty mask anything will do
        vectors = F.normalize(self._model.pooled(self._tokens, weights).float(), dim=1)
        return vectors * shown[:, None], covered


class Tipsv2(PatchModel):
    """Patch tokens as they are."""

    def learned_scale(self) -> float:
        return 1 / float(self.model.temperature.detach())

    def tokens(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        seen = self.model.vision_model(pixel_values=pixels).last_hidden_state
        others = 1 + self.model.config.vision_config.num_register_tokens  # class token first
        return seen[:, others:], self.grid_of(pixels)

    def project(self, tokens: Tensor) -> Tensor:
        return tokens[0]

    def pooled(self, tokens: Tensor, weights: Tensor) -> Tensor:
        return weighted(F.normalize(tokens[0].float(), dim=1), weights)


class Siglip(PatchModel):
    """The attention-pooling head, with masks for keys."""

    lower_case = True

    def _takes(self, name: str) -> bool:
        return name == "input_ids"  # it was trained to read the padding, too

    def tokens(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return self.model.vision_model(pixel_values=pixels).last_hidden_state, self.grid_of(pixels)

    def project(self, tokens: Tensor) -> Tensor:
        # Each patch is the only key, so that attention gives its value whatever the query.
        return self._head(tokens.transpose(0, 1))

    def pooled(self, tokens: Tensor, weights: Tensor) -> Tensor:
        return self._head(tokens.expand(len(weights), -1, -1), weights)

    def _head(self, keys: Tensor, weights: Tensor | None = None) -> Tensor:
        """(B, D) of (B, N, C) keys, each of which counts by its (B, N) weight."""
        head = self.model.vision_model.head
        probe = head.probe.expand(len(keys), -1, -1)
        bias = None
        if weights is not None:
            bias = weights.to(keys.dtype).log()[:, None]
            bias = bias.repeat_interleave(head.attention.num_heads, 0)
        found = head.attention(probe, keys, keys, attn_mask=bias, need_weights=False)[0]
        return (found + head.mlp(head.layernorm(found)))[:, 0]


class Siglip2(Siglip):
    """The same for NaFlex, which takes images as lists of patches."""

    def tokens(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        rows, columns = grid = self.grid_of(pixels)
        patch = self.model.config.vision_config.patch_size
        tiles = pixels.reshape(3, rows, patch, columns, patch).permute(1, 3, 2, 4, 0)
        seen = self.model.vision_model(
            pixel_values=tiles.reshape(1, rows * columns, -1),
            pixel_attention_mask=torch.ones(1, rows * columns, device=self.device),
            spatial_shapes=torch.tensor([grid], device=self.device),
        )
        return seen.last_hidden_state, grid


class Clip(PatchModel):
    """The value path of the last block, without patches that speak for the whole image."""

    padded = False

    def tokens(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, None)
        attention = last.self_attn
        values = attention.out_proj(attention.v_proj(last.layer_norm1(hidden)))
        return values[:, 1:], self.grid_of(pixels)  # class token first

    def project(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.model.visual_projection(
            self.model.vision_model.post_layernorm(tokens[0])
        )
        return projected

    def pooled(self, tokens: Tensor, weights: Tensor) -> Tensor:
        local = without_global(F.normalize(tokens[0].float(), dim=1), weights)
        return self.project(weighted(tokens[0].float(), local)[None])


class Crops(TextModel):
    """A model that sees whole images: it looks at the objects one by one."""

    padded = False

    def look(self, image: Image) -> Look:
        return CropLook(self, image)

    def learned_scale(self) -> float:
        if hasattr(self.model, "logit_scale"):
            return super().learned_scale()
        temperature = getattr(self.model, "temperature", None)
        return math.inf if temperature is None else 1 / float(temperature.detach())

    def vectors(self, images: list[Image]) -> Tensor:
        """(N, D) unit vectors of whole images, at least one."""
        pixels = torch.cat([self.prepare.tensor(image, self.device) for image in images])
        return F.normalize(vector_of(self.model.get_image_features(pixels)).float(), dim=1)


class CropLook(Look):
    """An image of which parts are looked at when they are asked for."""

    def __init__(self, model: Crops, image: Image) -> None:
        self._model, self._image = model, image

    def patches(self) -> None:
        return None

    def pool(self, masks: Tensor) -> Tensor:
        shown = [i for i, mask in enumerate(masks) if mask.any()]
        pairs = [crop_around(self._image, masks[i]) for i in shown]
        crops = [crop for crop, _ in pairs] + [without_surroundings(*pair) for pair in pairs]
        seen = self._model.vectors(crops or [self._image])
        vectors = seen.new_zeros(len(masks), seen.shape[1])
        if shown:
            vectors[shown] = F.normalize(seen[: len(shown)] + seen[len(shown) :], dim=1)
        return vectors


def weighted(features: Tensor, weights: Tensor) -> Tensor:
    """(B, C) means of (N, C) features by (B, N) weights."""
    return weights @ features / weights.sum(1, keepdim=True)


def without_global(units: Tensor, weights: Tensor) -> Tensor:
    """(B, N) weights with those of global patches 0. units: (N, C) unit vectors.

    An object keeps all its patches where none would be left.
    """
    alike = units @ units.T
    inside = (weights > 0).float()
    own = (inside @ alike - 1) / (inside.sum(1, keepdim=True) - 1).clamp(min=1)  # without itself
    outside = 1 - inside
    others = outside @ alike / outside.sum(1, keepdim=True).clamp(min=1)
    local = weights * ((own - others > GLOBAL) | (outside.sum(1, keepdim=True) == 0))
    return torch.where(local.sum(1, keepdim=True) > 0, local, weights)


FAMILIES: dict[str, type[TextModel]] = {
    "tipsv2": Tipsv2,
    "siglip": Siglip,
    "siglip2": Siglip2,
    "clip": Clip,
    "metaclip_2": Clip,
}
"""By the model type of a folder's config; others with features of images and text are `Crops`."""
