"""Memory attention on the whole image or on windows of it.

The arithmetic is that of upstream's `MemoryAttention` and `RoPEAttention`, with the places of the
tokens given instead of assumed, and with what is the same for all objects done once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttention
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor


def attend(
    attention: MemoryAttention,
    image: Tensor,
    image_pos: Tensor,
    memories: tuple[Tensor, Tensor],
    pointers: tuple[Tensor, Tensor],
    places: Tensor | None,
    memory_places: Tensor | None,
) -> Tensor:
    """Condition image tokens on memories and pointers: (B, N, C), or (B, n, C) at `places`.

    image, image_pos: (1 or B, N, C), all N tokens of one image or of one image per object.
    memories: (B, M, m, D) and their position code, which may be broadcast. pointers: (B, P, D)
    tokens and their code. places: (B, n) int64, the image tokens that are wanted, None for all.
    memory_places: (B, M, m) int64, where the memories' tokens lie, None for all N in order.

    The first self-attention and the queries that follow from it know nothing of memory: they are
    computed once for all objects of one image.
    """
    grid = round(image.shape[1] ** 0.5)
    x = image + 0.1 * image_pos if attention.pos_enc_at_input else image
    for i, layer in enumerate(attention.layers):
        turns = _turns(layer.self_attn, grid)
        if places is not None and i > 0:
            turns = turns[places]
        normed = layer.norm1(x)
        looking = normed + image_pos if layer.pos_enc_at_attn else normed
        x = x + _self_attention(layer.self_attn, looking, normed, turns)
        if i == 0 and places is not None:
            x = x.expand(len(places), -1, -1)
            x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
            image_pos = image_pos[0][places]
        normed = layer.norm2(x)
        looking = normed + image_pos if layer.pos_enc_at_cross_attn_queries else normed
        x = x + _cross_attention(
            layer.cross_attn_image,
            looking,
            memories,
            pointers,
            places,
            memory_places,
            grid,
            layer.pos_enc_at_cross_attn_keys,
        )
        x = x + layer.linear2(layer.activation(layer.linear1(layer.norm3(x))))
    out: Tensor = attention.norm(x)
    return out


def _self_attention(attention: RoPEAttention, looking: Tensor, x: Tensor, turns: Tensor) -> Tensor:
    q = _turned(attention.q_proj(looking), turns, attention.num_heads)
    k = _turned(attention.k_proj(looking), turns, attention.num_heads)
    return _weigh(attention, q, k, attention.v_proj(x))


def _cross_attention(
    attention: RoPEAttention,
    looking: Tensor,
    memories: tuple[Tensor, Tensor],
    pointers: tuple[Tensor, Tensor],
    places: Tensor | None,
    memory_places: Tensor | None,
    grid: int,
    pos_at_keys: bool,
) -> Tensor:
    turns = _turns(attention, grid)
    heads = attention.num_heads
    seen, seen_pos = memories
    told, told_pos = pointers
    q_turns = turns if places is None else turns[places]
    k_turns = turns if memory_places is None else turns[memory_places]
    q = _turned(attention.q_proj(looking), q_turns, heads)
    # Pointers have no place, so their keys are not turned.
    k_seen = _turned(attention.k_proj(seen + seen_pos if pos_at_keys else seen), k_turns, heads)
    k_told = attention.k_proj(told + told_pos if pos_at_keys else told)
    k = torch.cat([k_seen.flatten(1, 2), k_told], 1)
    v = attention.v_proj(torch.cat([seen.flatten(1, 2), told], 1))
    return _weigh(attention, q, k, v)


def _weigh(attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, ., C) tokens with the module's heads and output."""
    heads = attention.num_heads
    q = q.expand(len(k), -1, -1)
    out = F.scaled_dot_product_attention(*(attention._separate_heads(t, heads) for t in (q, k, v)))
    projected: Tensor = attention.out_proj(attention._recombine_heads(out))
    return projected


def _turns(attention: RoPEAttention, grid: int) -> Tensor:
    """The rotation of each place of the grid: (grid^2, channels of a head / 2) complex."""
    if len(attention.freqs_cis) != grid * grid:
        attention.freqs_cis = attention.compute_cis(end_x=grid, end_y=grid)
    device = attention.q_proj.weight.device
    if attention.freqs_cis.device != device:
        attention.freqs_cis = attention.freqs_cis.to(device)
    turns: Tensor = attention.freqs_cis
    return turns


def _turned(x: Tensor, turns: Tensor, heads: int) -> Tensor:
    """Rotary position encoding of (..., N, C) by (..., N, c) complex turns, per head, as upstream's
    `apply_rotary_enc`."""
    pairs = x.float().unflatten(-1, (heads, -1, 2))
    turned = torch.view_as_complex(pairs.contiguous()) * turns[..., None, :]
    return torch.view_as_real(turned).flatten(-3).to(x.dtype)
