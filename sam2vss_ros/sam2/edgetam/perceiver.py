"""EdgeTAM's 2D spatial perceiver: what is kept of a memory frame are 512 latents.

Half of them look at the whole frame, the other half, a square of 16 x 16, each at its own window.
Parameter names are those of Meta's checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.position_encoding import PositionEmbeddingSine
from torch import Tensor, nn

WIDTH = 64
"""Channels of memories and latents."""

WHOLE = 256
"""Latents that look at the whole frame; they have no place in it."""

SIDE = 16
"""Windows on a side, each with one latent: the grid of the memory is a multiple of it."""

LATENTS = WHOLE + SIDE**2
DEPTH = 2


def _feed_forward() -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(WIDTH),
        nn.Linear(WIDTH, 4 * WIDTH, bias=False),
        nn.GELU(),
        nn.Linear(4 * WIDTH, WIDTH, bias=False),
    )


class _Attention(nn.Module):
    """One head of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.to_kv = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.to_out = nn.Linear(WIDTH, WIDTH, bias=False)

    def attend(self, queries: Tensor, seen: Tensor, pos: Tensor | None = None) -> Tensor:
        """(B, q, C) from queries (B, q, C) and what they look at, (B, n, C); pos: (1, n, C)."""
        k, v = self.to_kv(seen).chunk(2, -1)
        if pos is not None:
            k, v = k + pos, v + pos
        if k.shape[1] == 1:  # the only one is attended to, whatever the query
            found = v
        else:
            q, k, v = (t[:, None] for t in (self.to_q(queries), k, v))
            found = F.scaled_dot_product_attention(q, k, v)[:, 0]
        out: Tensor = self.to_out(found)
        return out


class _LookAtFrame(_Attention):
    def __init__(self) -> None:
        super().__init__()
        self.norm_x = nn.LayerNorm(WIDTH)
        self.norm_latents = nn.LayerNorm(WIDTH)

    def forward(self, latents: Tensor, seen: Tensor, pos: Tensor | None) -> Tensor:
        return self.attend(self.norm_latents(latents), self.norm_x(seen), pos)


class _LookAtEachOther(_Attention):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, latents: Tensor) -> Tensor:
        normed = self.norm(latents)
        return self.attend(normed.expand(len(latents), -1, -1), normed)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = _LookAtFrame()
        self.ff = _feed_forward()
        self.self_attn = _LookAtEachOther()
        self.self_ff = _feed_forward()

    def forward(self, latents: Tensor, seen: Tensor, pos: Tensor | None = None) -> Tensor:
        latents = latents + self.attn(latents, seen, pos)
        latents = latents + self.ff(latents)
        latents = latents + self.self_attn(latents)
        updated: Tensor = latents + self.self_ff(latents)
        return updated


class SpatialPerceiver(nn.Module):
    """Squeezes memories of any number of tokens into LATENTS."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(WHOLE, WIDTH))
        self.latents_2d = nn.Parameter(torch.randn(SIDE**2, WIDTH))
        self.layers = nn.ModuleList(_Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.position_encoding = PositionEmbeddingSine(num_pos_feats=WIDTH)

    def forward(self, memories: Tensor, pos: Tensor) -> Tensor:
        """Squeeze (B, C, h, w) memories: (B, LATENTS, C); pos: their (1, C, h, w) encoding.

        h and w are multiples of SIDE.
        """
        count, (height, width) = len(memories), memories.shape[-2:]
        whole = self.latents.expand(count, -1, -1)
        seen, pos = (x.flatten(2).transpose(1, 2) for x in (memories, pos))
        for layer in self.layers:
            whole = layer(whole, seen, pos)
        rows = memories.unflatten(3, (SIDE, width // SIDE)).unflatten(2, (SIDE, height // SIDE))
        windows = rows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)
        placed = self.latents_2d.expand(count, -1, -1).flatten(0, 1)[:, None]
        for layer in self.layers:
            placed = layer(placed, windows)
        latents: Tensor = self.norm(torch.cat([whole, placed.view(count, SIDE**2, WIDTH)], 1))
        return latents

    @torch.no_grad()
    def positions(self) -> Tensor:
        """The (LATENTS, C) position encoding of the latents: none of those that see everything."""
        square = self.position_encoding(self.latents.new_zeros(1, WIDTH, SIDE, SIDE))
        return F.pad(square[0].flatten(1).T, (0, 0, WHOLE, 0))
