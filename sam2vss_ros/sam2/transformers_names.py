"""The weights of SAM 2 and EdgeTAM under the names that transformers gives them, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

RENAMED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # The image encoder. timm's own names follow `timm_model`, they stay as they are.
        (r"^image_encoder\.trunk\.body\.", "vision_encoder.backbone.timm_model."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        # Prompts and masks.
        (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
        (
            r"\.pe_layer\.positional_encoding_gaussian_matrix",
            ".shared_embedding.positional_embedding",
        ),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        # Memories.
        (r"^maskmem_tpos_enc", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed", "no_memory_embedding"),
        (r"^no_mem_pos_enc", "no_memory_positional_encoding"),
        (r"^no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
        (r"^no_obj_ptr", "no_object_pointer"),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.gamma$", ".scale"),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.mask_downsampler\.encoder\.12\.", ".mask_downsampler.final_conv."),
        (r"\.mask_downsampler\.encoder\.(\d+)\.", lambda match: _downsampler(int(match[1]))),
        # EdgeTAM's perceiver.
        (r"^spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
        (r"\.(self_)?ff\.0\.", r".\1mlp.layer_norm."),
        (r"\.(self_)?ff\.1\.", r".\1mlp.up_proj."),
        (r"\.(self_)?ff\.3\.", r".\1mlp.down_proj."),
        (r"\.attn\.norm_x\.", ".layer_norm_input."),
        (r"\.attn\.norm_latents\.", ".layer_norm_latents."),
        (r"^(spatial_perceiver\..*)\.self_attn\.norm\.", r"\1.layer_norm_self."),
        (r"^(spatial_perceiver\..*)\.attn\.to_(\w+)\.", r"\1.cross_attention.\2_proj."),
        (r"^(spatial_perceiver\..*)\.self_attn\.to_(\w+)\.", r"\1.self_attention.\2_proj."),
        # What is called the same everywhere.
        (r"\.out_proj\.", ".o_proj."),
        (r"\.norm(\d|\.|_final)", r".layer_norm\1"),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"(_head|_proj|_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
        (r"(_head|_proj|_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
        (r"(_head|_proj|_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
    )
]
"""Replaced in this order, in the names of Meta's checkpoints."""

POINT = re.compile(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight")
POINTS = "prompt_encoder.point_embed.weight"
"""Meta has a tensor for each kind of point, transformers one with a row for each."""

ORIGINAL = "prompt_encoder.shared_embedding.positional_embedding"
COPY = "shared_image_embedding.positional_embedding"
"""transformers saves the frequencies of positions twice."""


def _downsampler(index: int) -> str:
    """The mask downsampler is a sequence of convolutions, norms and activations."""
    kind = "conv" if index % 3 == 0 else "layer_norm"
    return f".mask_downsampler.layers.{index // 3}.{kind}."


def transformers_name(key: str, edgetam: bool) -> str:
    """What transformers calls a tensor of Meta's checkpoints, other than `POINT`; of the keys and
    values of the perceiver, one tensor of Meta's, with `kv_proj` for k_proj and v_proj."""
    for pattern, replacement in RENAMED:
        key = pattern.sub(replacement, key)
        if ".timm_model." in key:
            return key
    if edgetam and key.startswith("memory_attention."):
        key = key.replace(".linear1.", ".mlp.up_proj.").replace(".linear2.", ".mlp.down_proj.")
    return key


def from_transformers(
    weights: Mapping[str, Tensor], keys: Iterable[str], edgetam: bool
) -> dict[str, Tensor]:
    """The tensors for `keys` of Meta's, as far as they are there; what is left keeps its name.

    Raises ValueError where the two that Meta has as one are not the same.
    """
    left = dict(weights)
    copy = left.pop(COPY, None)
    if copy is not None and not torch.equal(copy, left.get(ORIGINAL, copy)):
        raise ValueError(f"{ORIGINAL} and {COPY} differ, but SAM 2 has one for both")
    points = left.pop(POINTS, None)
    found: dict[str, Tensor] = {}
    for key in keys:
        name = transformers_name(key, edgetam)
        if (point := POINT.fullmatch(key)) is not None:
            if points is not None and len(points) > int(point[1]):
                found[key] = points[int(point[1]) :][:1]
        elif "kv_proj" in name:
            halves = [name.replace("kv_proj", part) for part in ("k_proj", "v_proj")]
            if all(half in left for half in halves):
                found[key] = torch.cat([left.pop(half) for half in halves])
        elif name in left:
            found[key] = left.pop(name)
        elif name == ORIGINAL and copy is not None:
            found[key] = copy
    return {**found, **left}


def to_transformers(weights: Mapping[str, Tensor], edgetam: bool) -> dict[str, Tensor]:
    """Tensors under Meta's names as `load_state_dict` of transformers' model takes them."""
    found: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = transformers_name(key, edgetam)
        if "kv_proj" in name:
            for part, half in zip(("k_proj", "v_proj"), value.chunk(2), strict=True):
                found[name.replace("kv_proj", part)] = half
        elif not POINT.fullmatch(key):
            found[name] = value
    points = sorted(key for key in weights if POINT.fullmatch(key))
    found[POINTS] = torch.cat([weights[key] for key in points])
    found[COPY] = found[ORIGINAL]
    return found
