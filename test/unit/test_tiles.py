"""Tiles of a frame's places, and what is read of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.memory import (
    COARSE,
    FINE,
    LOCALITY,
    PLAIN_TURN,
    AffinityMemory,
    Reading,
    sharpen,
)
from sam2vss_ros.affinity.tiles import TILE, Tiles, distances, windows

CPU = torch.device("cpu")
GRID = (12, 21)
"""Rows and columns of places that do not fill their tiles."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("patch", [2, 4])
def test_tiles_that_are_cut_are_joined_again(patch: int) -> None:
    tiles = Tiles(GRID, patch)
    masks = torch.rand(3, *tiles.mask_size)
    rows, numbers = (x.flatten() for x in torch.meshgrid(
        torch.arange(3), torch.arange(tiles.count), indexing="ij"))  # fmt: skip
    found = tiles.cut(masks, rows, numbers)
    assert torch.equal(tiles.joined(found, rows, numbers, 3, -1.0), masks)
    one = tiles.joined(found[:1], rows[:1], numbers[:1], 3, -1.0)
    assert torch.equal(
        one[0, : TILE * patch, : TILE * patch], masks[0, : TILE * patch, : TILE * patch]
    )
    assert (one[1:] == -1).all() and (one[0, TILE * patch :] == -1).all()
    places = F.pixel_unshuffle(masks[:, None], patch).permute(0, 2, 3, 1)
    table = torch.zeros(3, TILE * tiles.shape[0], TILE * tiles.shape[1], patch**2)
    tiles.put(table, rows, numbers, found)
    assert torch.equal(table[:, : GRID[0], : GRID[1]], places), "places in rows, a patch for each"


def test_places_are_those_of_the_tile() -> None:
    tiles = Tiles(GRID, 2)
    at = torch.arange(GRID[0] * GRID[1]).view(GRID)
    places, inside = tiles.places(), tiles.inside()
    assert places.shape == (6, TILE**2) and inside.shape == (6, TILE**2, 1)
    assert torch.equal(places[4].view(TILE, TILE)[:4], at[8:, 8:16])
    assert (places[4].view(TILE, TILE)[4:] == at[11, 8:16]).all(), "beyond: on the edge"
    assert inside[4].view(TILE, TILE)[:4].all() and not inside[4].view(TILE, TILE)[4:].any()
    assert int(inside.sum()) == GRID[0] * GRID[1]


def test_near_is_within_so_many_places() -> None:
    tiles = Tiles(GRID, 2)
    for row, column in ((0, 0), (7, 20), (11, 15), (3, 9)):
        mask = torch.zeros(1, *tiles.mask_size)
        mask[0, 2 * row + 1, 2 * column] = 0.5
        for radius in (0, 3):
            near = tiles.near(mask, radius, 0.1)[0].view(tiles.shape)
            for i, j in torch.cartesian_prod(*(torch.arange(n) for n in tiles.shape)).tolist():
                down = TILE * i - radius <= row < TILE * i + TILE + radius
                across = TILE * j - radius <= column < TILE * j + TILE + radius
                assert bool(near[i, j]) == (down and across)
        assert not tiles.near(mask, 3, 0.6).any()


def test_windows_are_all_around_the_tile() -> None:
    tiles, radius = Tiles(GRID, 2), 5
    size, beyond = tiles.size, tiles.size[0] * tiles.size[1]
    places, distance = windows(size, radius), distances(radius)
    assert places.shape == (tiles.count, distance.shape[1]) and places.max() == beyond
    assert distance.shape == (TILE**2, (TILE + 2 * radius) ** 2)
    # The second tile's third query against its window, place by place.
    query, inside = torch.tensor([0, TILE + 2]), places[1] < beyond
    there = torch.stack([places[1] // size[1], places[1] % size[1]], 1)
    assert torch.equal((there - query).square().sum(1)[inside], distance[2][inside])
    assert set(places[1][inside].tolist()) == {
        row * size[1] + column
        for row in range(size[0])
        for column in range(size[1])
        if row < TILE + radius and TILE - radius <= column < 2 * TILE + radius
    }


def plainly_read(
    reading: Reading, keys: Tensor, frames: list[tuple[Tensor, Tensor, int, float]]
) -> Tensor:
    """(h, w, patch * patch), every place by all places of all frames.

    frames: keys, mask, radius and locality of each.
    """
    places = torch.cartesian_prod(*(torch.arange(n) for n in GRID)).float()
    distance = torch.cdist(places, places).square().round()
    first = (places // TILE * TILE)[:, None]  # of each place's tile
    beyond = torch.maximum(first - places, places - first - (TILE - 1)).amax(2)
    scores, values = [], []
    for theirs, mask, radius, locality in frames:
        score = keys.flatten(0, 1) @ theirs.flatten(0, 1).T - locality * distance
        scores.append(score.masked_fill(beyond > radius, -torch.inf))
        values.append(F.pixel_unshuffle(mask[None], reading.patch).flatten(1).T)
    score = torch.cat(scores, 1)
    weight = (score - score.amax(1, keepdim=True) + reading.reach).clamp(min=0).square()
    read = weight @ torch.cat(values) / weight.sum(1, keepdim=True)
    return read.view(*GRID, -1)


@pytest.mark.parametrize("reading", [COARSE, FINE])
def test_tiles_are_read_as_places_are(reading: Reading) -> None:
    """Of objects that began on several frames, together: each by the frames that it is known on."""
    tiles, count = Tiles(GRID, reading.patch), 3
    memory = AffinityMemory(reading, GRID, count, CPU, torch.float32)
    common = F.normalize(torch.rand(*GRID, reading.channels) - 0.2, dim=2)
    films = [F.normalize(common + 0.05 * torch.randn_like(common), dim=2) for _ in range(3)]
    began = torch.rand(count, *tiles.mask_size)
    last = torch.rand(count, *tiles.mask_size)
    for frame in (0, 1):
        memory.condition(frame, films[frame])
    for i in range(count):  # all of them know frame 0, so that a tile's best is one of theirs
        memory.add_object(i, 0, began[i])
    memory.add_object(2, 1, began[2])
    for i in (0, 1):
        memory.add_object(i, 1, began[i])
    memory.remember(films[1], last)
    found = memory.read(films[2], last, None)
    assert found.objects.tolist() == [0, 1, 2]
    for i in range(count):
        frames = [(films[f], began[i], reading.radius, 0.0) for f in (0, 1)]
        frames.append((films[1], last[i], reading.last_radius, LOCALITY))
        expected = plainly_read(reading, films[2], frames)
        expected = sharpen(expected) if reading.older else expected
        whole = F.pixel_shuffle(expected.permute(2, 0, 1)[None], reading.patch)[0, 0]
        torch.testing.assert_close(found.logits[i].sigmoid(), whole, atol=2e-3, rtol=1e-3)
        inside = whole > 0.5
        crisp = whole[inside].sum() / (inside.sum() + whole[~inside].sum())
        torch.testing.assert_close(found.crisp[i], crisp, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("reading", [COARSE, FINE])
def test_tiles_rest_in_turn_where_the_flow_is_believed(reading: Reading) -> None:
    """A tile with a border of a mask is read more often; one that is not believed, always."""
    tiles = Tiles((24, 24), reading.patch)
    memory = AffinityMemory(reading, (24, 24), 1, CPU, torch.float32)
    mask = torch.zeros(1, *tiles.mask_size)
    mask[0, : TILE * reading.patch, : TILE * reading.patch // 2] = 1  # a border in tile 0 alone
    numbers = torch.arange(tiles.count)
    found = tiles.cut(mask, torch.zeros_like(numbers), numbers)
    belief = torch.ones(24, 24)
    belief[:TILE, TILE : 2 * TILE] = 0.5  # of tile 1
    length = reading.turn * PLAIN_TURN
    read = torch.zeros(tiles.count)
    for _ in range(length):
        read += ~memory._resting(belief, found, numbers)
        memory.remember(torch.zeros(24, 24, reading.channels), mask)
    assert read[0] == length / reading.turn
    assert read[1] == length
    assert (read[2:] == length / PLAIN_TURN).all()
    assert not memory._resting(None, found, numbers).any(), "without a flow nothing can be carried"
