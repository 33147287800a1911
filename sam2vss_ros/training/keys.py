"""Training of keys: what a memory that knows one view reads of another is compared with the truth.

The trunk stays as it is. Keys begin as the principal components of its features, with which the
memory reads about as with all of them.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.keys import (
    KeyNet,
    Pyramid,
    directions,
    resampled,
)
from sam2vss_ros.affinity.memory import COARSE, FINE
from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.sam2.functional import normalise
from sam2vss_ros.training.loop import run_steps
from sam2vss_ros.training.pairs import Pair, PairStream
from sam2vss_ros.training.pasted import Pictures

QUERIES = 500
"""Places of a view that read, in a step."""

AT_BORDERS = 0.65
"""Share of them near the border of a region."""

TEMPERATURE, CONTRAST_SHARE = 0.05, 0.1
"""Of the loss that pulls places of one region together, beside that of what is read."""

LEAST_SHARE = 0.01
"""No answer is held for less likely: labels are not exact to the pixel."""

FIRST_BATCHES = 20
"""From which the principal components are taken."""


def train_keys(
    pictures: Pictures,
    model: AffinityModel,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    resume: bool = False,
) -> KeyNet:
    """Train for `steps` steps; returns the averaged weights. The run is one of `loop.run_steps`."""
    network = KeyNet().to(model.device)
    _begin(network, PairStream(pictures, seed=seed + 1, first_step=0), model)

    def step(batch: list[Pair], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        losses, right = zip(
            *(
                reading_loss(network, _encoded(model, pair), pair.ids.to(model.device))
                for pair in batch
            ),
            strict=True,
        )
        loss = torch.stack(losses).mean()
        return loss, {"loss": float(loss.detach()), "right": float(np.mean(right))}

    run_steps(
        network,
        torch.optim.AdamW(network.parameters(), weight_decay=0.0),
        lambda first: PairStream(pictures, seed=seed, first_step=first),
        step,
        out,
        steps=steps,
        seed=seed,
        resume=resume,
    )
    return network


def reading_loss(network: KeyNet, pyramid: Pyramid, ids: Tensor) -> tuple[Tensor, float]:
    """How wrong the second view is read from the first, as `AffinityMemory` reads a conditioning
    frame; and the share of its pixels that are read right.

    pyramid: of 2 views. ids: (2, H, W) int64 regions, below 0 for what is not to be read.
    """
    keys = network(pyramid)
    known, wanted = (patches.flatten(0, 1) for patches in _patches(ids))
    grid = (keys.shape[1], keys.shape[2])
    queries = _queries(wanted.view(*grid, -1))
    near, inside = _window(queries, grid, COARSE.radius)
    table, asking = keys.flatten(1, 2)
    scores = torch.einsum("nwc,nc->nw", table[near], asking[queries])
    scores = scores.masked_fill(~inside, -1e4)
    same = (known[near] == wanted[queries][:, None]) & inside[..., None]
    weights = (scores - scores.amax(1, keepdim=True) + COARSE.reach).relu().square()
    share = torch.einsum("nw,nwp->np", weights, same.float()) / weights.sum(1, keepdim=True)
    readable = same.any(1) & (wanted[queries] >= 0)
    likely = LEAST_SHARE + (1 - 2 * LEAST_SHARE) * share
    count = readable.sum().clamp(min=1)
    loss = -(likely.log() * readable).sum() / count
    # Where the right places are too far behind to be read at all, reading has no gradient.
    alike = scores / TEMPERATURE
    right = torch.logsumexp(alike.masked_fill(~same.any(2), -1e4), 1)
    contrast = (torch.logsumexp(alike, 1) - right)[same.flatten(1).any(1)]
    correct = float(((share > 0.5) & readable).sum() / count)
    return loss + CONTRAST_SHARE * contrast.sum() / max(1, len(contrast)), correct


def _begin(network: KeyNet, stream: PairStream, model: AffinityModel) -> None:
    """Principal components of the features of a few views; fine keys stay so."""
    pairs = (pair for batch in islice(iter(stream), FIRST_BATCHES) for pair in batch)
    pyramids = [_encoded(model, pair) for pair in pairs]
    for maps, stride in ((network.levels, COARSE.stride), (network.fine, FINE.stride)):
        products: list[Tensor] = []
        for pyramid in pyramids:
            levels = directions(pyramid, stride)
            whole = torch.cat([resampled(level, levels[0]) for level in levels], 3).flatten(0, 2)
            products.append(whole.T @ whole / len(whole))
        components = torch.linalg.eigh(torch.stack(products).sum(0))[1]
        first = 0
        for part in maps:
            assert isinstance(part, nn.Linear)
            rows = components[first : first + part.in_features, -part.out_features :]
            part.weight.data.copy_(rows.T)
            first += part.in_features


def _encoded(model: AffinityModel, pair: Pair) -> Pyramid:
    with torch.no_grad():
        fine, middle, coarse = model.encode(normalise(pair.images.to(model.device))).pyramid
    return fine.float(), middle.float(), coarse.float()


def _patches(ids: Tensor) -> Tensor:
    """(B, h, w, patch * patch): the regions of the mask pixels of each place."""
    step = COARSE.stride // COARSE.patch
    pixels = ids[:, step // 2 :: step, step // 2 :: step]
    squares = pixels.unflatten(2, (-1, COARSE.patch)).unflatten(1, (-1, COARSE.patch))
    return squares.transpose(2, 3).flatten(3)


def _queries(regions: Tensor) -> Tensor:
    """(QUERIES,) places of a grid, (h, w, pixels) ids of regions, that shall read."""
    low, high = regions.amin(2).float(), regions.amax(2).float()
    lowest = -F.max_pool2d(-low[None], 5, 1, 2)[0]
    highest = F.max_pool2d(high[None], 5, 1, 2)[0]
    borders = (lowest != highest).flatten().nonzero()[:, 0]
    some = borders[torch.randperm(len(borders), device=borders.device)]
    some = some[: int(AT_BORDERS * QUERIES)]
    others = torch.randint(low.numel(), (QUERIES - len(some),), device=borders.device)
    return torch.cat([some, others])


def _window(queries: Tensor, grid: tuple[int, int], radius: int) -> tuple[Tensor, Tensor]:
    """(N, W) places around N, and whether they are in the grid."""
    along = torch.arange(-radius, radius + 1, device=queries.device)
    down, across = torch.meshgrid(along, along, indexing="ij")
    disk = down.square() + across.square() <= radius**2
    rows = queries[:, None] // grid[1] + down[disk]
    columns = queries[:, None] % grid[1] + across[disk]
    inside = (rows >= 0) & (rows < grid[0]) & (columns >= 0) & (columns < grid[1])
    return rows.clamp(0, grid[0] - 1) * grid[1] + columns.clamp(0, grid[1] - 1), inside
