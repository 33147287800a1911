"""Memory attention on the whole image or on windows of it.

The arithmetic is that of upstream's `MemoryAttention` and `RoPEAttention`. Here, though, the caller
may give the positions of the tokens, and what all objects share is computed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from sam2.modeling.memory_attention import MemoryAttention
    from sam2.modeling.sam.transformer import RoPEAttention

NARROW = 4
"""How many times wider than its memories attention is where values are projected last."""

MOST_SCORES = 1 << 22
"""Scores of queries and keys that are held at a time there: 16 MB."""


def attend(
    attention: MemoryAttention,
    image: Tensor,
    image_pos: Tensor,
    memories: tuple[Tensor, Tensor],
    pointers: tuple[Tensor, Tensor],
    positions: Tensor | None,
    memory_positions: Tensor | None,
    ropes: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Condition image tokens on memories and pointers: (B, N, C), or (B, n, C) at `positions`.

    image, image_pos: (1 or B, N, C), the N tokens of one image, or of one image per object, and
    their position encoding. memories: (B, M, m, D) tokens and their position encoding, which may
    be broadcast. pointers: (B, P, D) tokens and their position encoding. positions: (B, n) int64,
    the image tokens to condition, None for all N. memory_positions: (B, M, m) int64, where the
    memory tokens lie in their frames, None for all of a frame in order. ropes: the rotations of the
    image's tokens, (N, .), and of a memory's, (m, .) complex; None: upstream's, the same for both.

    The first self-attention and the queries after it do not depend on memory: all objects of one
    image share them.
    """
    grid = round(image.shape[1] ** 0.5)
    x = image + 0.1 * image_pos if attention.pos_enc_at_input else image
    for i, layer in enumerate(attention.layers):
        rope = _rope_table(layer.self_attn, grid) if ropes is None else ropes[0]
        if positions is not None and i > 0:
            rope = rope[positions]
        normed = layer.norm1(x)
        qk_input = normed + image_pos if layer.pos_enc_at_attn else normed
        x = x + _self_attention(layer.self_attn, qk_input, normed, rope)
        if i == 0 and positions is not None:
            x = x.expand(len(positions), -1, -1)
            x = x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))
            image_pos = image_pos[0][positions]
        normed = layer.norm2(x)
        q_input = normed + image_pos if layer.pos_enc_at_cross_attn_queries else normed
        x = x + _cross_attention(
            layer.cross_attn_image,
            q_input,
            memories,
            pointers,
            positions,
            memory_positions,
            ropes or (_rope_table(layer.cross_attn_image, grid),) * 2,
            layer.pos_enc_at_cross_attn_keys,
        )
        x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
    out: Tensor = attention.norm(x)
    return out


def _self_attention(
    attention: RoPEAttention, qk_input: Tensor, v_input: Tensor, rope: Tensor
) -> Tensor:
    q = _apply_rope(attention.q_proj(qk_input), rope, attention.num_heads)
    k = _apply_rope(attention.k_proj(qk_input), rope, attention.num_heads)
    return _scaled_dot_product_attention(attention, q, k, attention.v_proj(v_input))


def _cross_attention(
    attention: RoPEAttention,
    q_input: Tensor,
    memories: tuple[Tensor, Tensor],
    pointers: tuple[Tensor, Tensor],
    positions: Tensor | None,
    memory_positions: Tensor | None,
    ropes: tuple[Tensor, Tensor],
    pos_at_keys: bool,
) -> Tensor:
    q_rope, memory_rope = ropes
    heads = attention.num_heads
    memory_tokens, memory_pos = memories
    pointer_tokens, pointer_pos = pointers
    q_rope = q_rope if positions is None else q_rope[positions]
    memory_rope = memory_rope if memory_positions is None else memory_rope[memory_positions]
    q = _apply_rope(attention.q_proj(q_input), q_rope, heads)
    memory_keys = attention.k_proj(memory_tokens + memory_pos if pos_at_keys else memory_tokens)
    memory_keys = _apply_rope(memory_keys, memory_rope, heads)
    # Pointers have no position in the image: their keys get no RoPE.
    pointer_keys = attention.k_proj(pointer_tokens + pointer_pos if pos_at_keys else pointer_tokens)
    k = torch.cat([memory_keys.flatten(1, 2), pointer_keys], 1)
    tokens = torch.cat([memory_tokens.flatten(1, 2), pointer_tokens], 1)
    if heads == 1 and k.device.type == "cpu" and k.shape[-1] >= NARROW * tokens.shape[-1]:
        found: Tensor = attention.out_proj(attention.v_proj(_mixed(q, k, tokens)))
        return found
    return _scaled_dot_product_attention(attention, q, k, attention.v_proj(tokens))


def _mixed(q: Tensor, k: Tensor, tokens: Tensor) -> Tensor:
    """What each query of (1 or B, N, C) attends to: (B, N, D), of (B, n, D) tokens by their keys.

    Attention's weights sum to 1, so values may be projected after they are mixed, narrow as they
    are. torch's fused kernels for CPUs want values as wide as keys.
    """
    q = (q * k.shape[-1] ** -0.5).expand(len(k), -1, -1)
    mixed = tokens.new_empty(len(k), q.shape[1], tokens.shape[-1])
    rows = max(1, MOST_SCORES // k.shape[1])
    for queries, keys, values, out in zip(q, k, tokens, mixed, strict=True):
        for part, mix in zip(queries.split(rows), out.split(rows), strict=True):
            torch.mm(torch.mm(part, keys.T).softmax(1), values, out=mix)
    return mixed


def _scaled_dot_product_attention(
    attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Attend with the module's heads, then project: (B, ., C) queries, keys and values."""
    heads = attention.num_heads
    q = q.expand(len(k), -1, -1)
    out = F.scaled_dot_product_attention(*(attention._separate_heads(t, heads) for t in (q, k, v)))
    projected: Tensor = attention.out_proj(attention._recombine_heads(out))
    return projected


def _rope_table(attention: RoPEAttention, grid: int) -> Tensor:
    """The RoPE rotations at each position of the grid: (grid^2, channels per head / 2) complex."""
    if len(attention.freqs_cis) != grid * grid:
        attention.freqs_cis = attention.compute_cis(end_x=grid, end_y=grid)
    device = attention.q_proj.weight.device
    if attention.freqs_cis.device != device:
        attention.freqs_cis = attention.freqs_cis.to(device)
    table: Tensor = attention.freqs_cis
    return table


def _apply_rope(x: Tensor, rope: Tensor, heads: int) -> Tensor:
    """Rotate each head of (..., N, C) tokens by (..., N, C / heads / 2) rotations, as upstream's
    `apply_rotary_enc`."""
    pairs = x.float().unflatten(-1, (heads, -1, 2))
    rotated = torch.view_as_complex(pairs.contiguous()) * rope[..., None, :]
    return torch.view_as_real(rotated).flatten(-3).to(x.dtype)
