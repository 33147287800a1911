"""Masks carried from frame to frame by the similarity of frame features.

Each place of a new frame takes the mean of the masks around the most similar places nearby, on the
frames that objects began on, a few older ones, and the last, which alone is moved along the optical
flow first. A place carries a patch of mask pixels, so masks stay finer than keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.stream.motion import Flow, carried

TILE = 8
"""Side in places of the squares of queries that share one window of keys."""

OUTSIDE = -16.0
"""Added to the similarity (-1 to 1) of what may not be read."""

AT_ONCE = 16
"""Tiles that are read at once: few enough for what is computed of them to stay in the cache."""

EMPTY = 0.02
"""A window whose masks nowhere exceed this is not read."""

BELIEVED = 0.8
"""Mean belief in the flow with which the masks of a tile may rest: be carried along it."""

CONDITIONING = 3
"""Frames that objects began on. Objects of earlier ones begin again as they are by then."""


@dataclass(frozen=True)
class Reading:
    """How finely, and where, a memory is read; lengths are places, one of a key each.

    stride: pixels of the input from place to place. channels: of a key. patch: mask pixels on the
    side of a place. older: frames kept beside the last, one of every `spacing`. radius,
    older_radius, last_radius: how far from its place a thing may be on a conditioning frame, an
    older one, and on the last around where the flow leads. reach: how much less similar than the
    most similar place is still read. rests: whether tiles rest on every other frame.
    """

    stride: int
    channels: int
    patch: int
    older: int
    spacing: int
    radius: int
    older_radius: int
    last_radius: int
    reach: float
    rests: bool


COARSE = Reading(8, 64, 4, 2, 4, 10, 6, 4, 0.25, True)
FINE = Reading(4, 64, 2, 0, 1, 6, 3, 3, 0.15, False)
"""For small objects; what is large would blur."""

LOCALITY = 0.01
"""Similarity lost per squared place away from where the flow leads."""


class AffinityMemory:
    """A bounded bank of frame keys and, for each object, its soft masks on those frames.

    grid: rows and columns of places on a frame. objects: most that are followed.
    All storage is allocated at once, on the CPU or a GPU alike, keys and masks in `dtype`.
    """

    def __init__(
        self,
        reading: Reading,
        grid: tuple[int, int],
        objects: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.reading, self.grid, self.objects = reading, grid, objects
        self._dtype = dtype
        self._older = range(CONDITIONING, CONDITIONING + reading.older)
        self._last = CONDITIONING + reading.older
        self._radii = [
            *[reading.radius] * CONDITIONING,
            *[reading.older_radius] * reading.older,
            reading.last_radius,
        ]
        self._tiles = (-(-grid[0] // TILE), -(-grid[1] // TILE))
        padded = [
            (TILE * self._tiles[0] + 2 * r, TILE * self._tiles[1] + 2 * r) for r in self._radii
        ]
        like = torch.zeros(0, dtype=dtype, device=device)
        self._keys = [like.new_zeros(*size, reading.channels) for size in padded]
        self._masks = [like.new_zeros(objects, *size, reading.patch**2) for size in padded]
        self._bias = [_bias(r, 0.0).to(like) for r in self._radii[:-1]]
        self._bias.append(_bias(reading.last_radius, LOCALITY).to(like))
        self._windows = [
            _windows(size, r).to(device) for size, r in zip(padded, self._radii, strict=True)
        ]
        # Which objects have a mask on which frame.
        self._known = torch.zeros(self._last + 1, objects, dtype=torch.bool, device=device)
        self._last_keys = like.new_zeros(*grid, reading.channels)
        self._last_masks = torch.zeros(objects, *self._mask_size(grid), device=device)
        # Whether a mask of the object lies in the tile's window of the frame.
        self._reach = torch.zeros(
            self._last + 1, objects, *self._tiles, dtype=torch.bool, device=device
        )
        self._age = 0

    def nbytes(self) -> int:
        """Bytes of the tensors; constant."""
        single = (self._known, self._last_keys, self._last_masks, self._reach)
        return sum(
            t.nbytes for t in (*self._keys, *self._masks, *self._bias, *self._windows, *single)
        )

    def condition(self, frame: int, keys: Tensor) -> None:
        """Keep (h, w, C) keys as conditioning frame `frame`; no object has a mask there yet."""
        self._inner(self._keys[frame], frame).copy_(keys)
        self._masks[frame].zero_()
        self._reach[frame] = self._known[frame] = False

    def add_object(self, index: int, frame: int, mask: Tensor) -> None:
        """Object `index` has the soft (h * patch, w * patch) mask at conditioning frame `frame`,
        which is the present one: `remember` must follow."""
        self._store_masks(frame, mask[None], torch.tensor([index], device=mask.device))
        self._known[frame, index] = self._known[self._last, index] = True

    def remove_object(self, index: int) -> None:
        """Forget object `index`; its place may be given to another."""
        for masks in self._masks:
            masks[index] = 0
        self._last_masks[index] = 0
        self._known[:, index] = False
        self._reach[:, index] = False
        if not self._known.any():
            self._age = 0  # as in a memory that has just begun

    def remember(self, keys: Tensor, masks: Tensor) -> None:
        """Keep a frame's (h, w, C) keys and (objects, h * patch, w * patch) soft masks, as
        corrected by whatever followed `read`, for the frame after. Unknown objects stay so."""
        if self._older and self._age and self._age % self.reading.spacing == 0:
            slot = self._older[self._age // self.reading.spacing % len(self._older)]
            here = self._known[self._last].nonzero()[:, 0]
            self._masks[slot].zero_()
            self._reach[slot] = False
            if len(here):
                self._inner(self._keys[slot], slot).copy_(self._last_keys)
                self._store_masks(slot, self._last_masks[here], here)
            self._known[slot] = self._known[self._last]
        here = self._known[self._last].nonzero()[:, 0]
        self._last_keys.copy_(keys)
        self._last_masks[here] = masks[here]
        self._age += 1

    def read(self, keys: Tensor, flow: Flow | None) -> Tensor:
        """(objects, h * patch, w * patch) soft masks, float32, at a frame of (h, w, C) keys.

        flow: from this frame to the last.
        """
        out, patch = torch.zeros_like(self._last_masks), self.reading.patch**2
        here = self._known.any(0).nonzero()[:, 0]
        if not len(here):
            return out
        past, masks = self._last_keys, self._last_masks[here]
        if flow is not None:
            size = (masks.shape[-2], masks.shape[-1])
            masks = carried(masks, flow.at(size, masks.device), "bilinear")
            past = F.normalize(_gathered(past, flow.at(self.grid, past.device)).float(), dim=2)
        self._inner(self._keys[self._last], self._last).copy_(past)
        self._store_masks(self._last, masks, here)
        read = masks.new_zeros(len(here), self._tiles[0] * self._tiles[1], TILE**2, patch)
        near = self._tiles_near(masks, self.reading.older_radius).flatten(1)
        # Who was out of sight is looked for wherever it was remembered.
        near |= self._reach[:, here].any(0).flatten(1) & ~near.any(1, keepdim=True)
        rests = self._resting(flow)
        near &= ~rests.flatten()
        tiles, row = near.T.nonzero(as_tuple=True)
        if len(tiles):
            count = tiles.unique_consecutive(return_counts=True)[1]
            parts = [int(n.sum()) for n in count.split(AT_ONCE)]
            queries = self._queries(keys)
            pairs = zip(here[row].split(parts), tiles.split(parts), strict=True)
            read[row, tiles] = torch.cat([self._read_tiles(queries, *pair) for pair in pairs])
        out[here] = torch.where(self._pixels_of(rests), masks, self._from_tiles(read))
        return out

    def _resting(self, flow: Flow | None) -> Tensor:
        """(rows, columns) bool: tiles whose masks are only carried along the flow on this frame,
        black or white squares of a chessboard in turn, where the flow is believed."""
        device = self._known.device
        if flow is None or not self.reading.rests:
            return torch.zeros(self._tiles, dtype=torch.bool, device=device)
        belief = F.avg_pool2d(flow.at(self.grid, device)[2:], TILE, ceil_mode=True)[0]
        row, column = (torch.arange(n, device=device) for n in self._tiles)
        return (belief >= BELIEVED) & ((row[:, None] + column + self._age) % 2 == 0)

    def _pixels_of(self, tiles: Tensor) -> Tensor:
        """(rows, columns) of tiles -> (h * patch, w * patch)"""
        side = TILE * self.reading.patch
        rows, columns = self._mask_size(self.grid)
        return tiles.repeat_interleave(side, 0).repeat_interleave(side, 1)[:rows, :columns]

    def _read_tiles(self, queries: Tensor, objects: Tensor, tiles: Tensor) -> Tensor:
        """(pairs of object and tile, queries, patch * patch) from the (., queries, C) of all tiles;
        pairs of one tile stand together."""
        # The affinity of a tile is computed once, and read in one product for all objects in reach
        # of it, which are its columns.
        active, place, count = tiles.unique_consecutive(return_inverse=True, return_counts=True)
        column = torch.arange(len(tiles), device=tiles.device) - (count.cumsum(0) - count)[place]
        # Few sizes: a library of matrix products keeps a kernel for each that it has met.
        active = F.pad(active, (0, AT_ONCE - len(active)))
        most, patch = 1 << (int(count.max()) - 1).bit_length(), self.reading.patch**2
        frames = [i for i, known in enumerate(self._known.any(1).tolist()) if known]
        scores = []
        for i in frames:
            window = _rows(self._keys[i].flatten(0, 1), self._windows[i][active])
            scores.append(torch.baddbmm(self._bias[i], queries[active], window.transpose(1, 2)))
        best = torch.stack([score.amax(-1) for score in scores]).amax(0)
        least = (best - self.reading.reach)[..., None]
        mass = self._last_masks.new_zeros(len(active), TILE**2, most * patch)
        total = self._last_masks.new_zeros(len(active), TILE**2, most)
        for i, score in zip(frames, scores, strict=True):
            # As sharp as an exponential, but it ends: what is far less similar has no say at all.
            weights = score.sub_(least).relu_().square_()
            known = total.new_zeros(len(active), 1, most)
            known[place, 0, column] = self._known[i, objects].float()
            total += weights.sum(-1, keepdim=True, dtype=torch.float32) * known
            # Who has no mask near the tile reads the first place of the table, which is padding.
            reached = self._reach[i].flatten(1)[objects, tiles].nonzero()[:, 0]
            if len(reached):
                window = self._windows[i][tiles[reached]]
                window += objects[reached, None] * self._masks[i][0, ..., 0].numel()
                index = window.new_zeros(len(active), window.shape[1], most)
                index[place[reached], :, column[reached]] = window
                masks = _rows(self._masks[i].flatten(0, 2), index.flatten(1))
                mass += torch.bmm(weights, masks.unflatten(1, (-1, most)).flatten(2))
        read = mass.unflatten(2, (most, patch)) / total.clamp(min=1e-6)[..., None]
        return read[place, :, column]

    def _queries(self, keys: Tensor) -> Tensor:
        """(h, w, C) keys -> (tiles, queries of a tile, C)"""
        below, right = (TILE * n - side for n, side in zip(self._tiles, self.grid, strict=True))
        padded = F.pad(keys.to(self._dtype), (0, 0, 0, right, 0, below))
        squares = padded.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)).transpose(1, 2)
        return squares.flatten(2, 3).flatten(0, 1)

    def _store_masks(self, frame: int, masks: Tensor, objects: Tensor) -> None:
        """Keep the (B, h * patch, w * patch) masks of B objects on a frame."""
        patches = F.pixel_unshuffle(masks[:, None], self.reading.patch)
        self._inner(self._masks[frame], frame)[objects] = patches.permute(0, 2, 3, 1).to(
            self._dtype
        )
        self._reach[frame, objects] = self._tiles_near(masks, self._radii[frame])

    def _tiles_near(self, masks: Tensor, radius: int) -> Tensor:
        """(B, rows, columns) bool: is there anything of a mask within so many places of a tile?"""
        down, across = (
            _spans(n, side, radius, self.reading.patch).to(masks)
            for n, side in zip(self._tiles, self.grid, strict=True)
        )
        # Counted by matrix products: several times as fast on a CPU as looking for the greatest.
        return down @ ((masks > EMPTY).to(masks) @ across.T) > 0

    def _inner(self, padded: Tensor, frame: int) -> Tensor:
        """The part of (..., H, W, C) storage that lies in the image."""
        r = self._radii[frame]
        rows, columns = self.grid
        return padded[..., r : r + rows, r : r + columns, :]

    def _mask_size(self, places: tuple[int, int]) -> tuple[int, int]:
        """Mask pixels of so many rows and columns of places."""
        return places[0] * self.reading.patch, places[1] * self.reading.patch

    def _from_tiles(self, tiles: Tensor) -> Tensor:
        """(B, tiles, queries, patch * patch) -> (B, h * patch, w * patch)"""
        patch, (down, across) = self.reading.patch, self._tiles
        maps = tiles.view(len(tiles), down, across, TILE, TILE, patch, patch)
        whole = self._mask_size((TILE * down, TILE * across))
        maps = maps.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(tiles), *whole)
        rows, columns = self._mask_size(self.grid)
        return maps[:, :rows, :columns]


def _windows(size: tuple[int, int], radius: int) -> Tensor:
    """(tiles, side * side) positions of the tiles' windows in a flattened grid of `size`."""
    rows, columns = (torch.arange(n).unfold(0, TILE + 2 * radius, TILE) for n in size)
    return (rows[:, None, :, None] * size[1] + columns[None, :, None]).flatten(2).flatten(0, 1)


def _spans(tiles: int, places: int, radius: int, patch: int) -> Tensor:
    """(tiles, places * patch), 1 where a mask pixel is within so many places of a tile."""
    tile, place = torch.arange(tiles)[:, None] * TILE, torch.arange(places)
    near = (place >= tile - radius) & (place < tile + TILE + radius)
    return near.repeat_interleave(patch, 1).float()


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """The rows of an (N, C) table at an index of two dimensions: (., ., C)"""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def _gathered(maps: Tensor, places: Tensor) -> Tensor:
    """(h, w, C) maps of the frame before, moved bilinearly to where they are now.

    The same as `carried`, but for channels that come last. places: `Flow.at`, (3, h, w).
    """
    height, width, _ = maps.shape
    x, y = ((places[i].flatten() + 1) * n / 2 - 0.5 for i, n in ((0, width), (1, height)))
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.long().clamp(max=width - 2), y.long().clamp(max=height - 2)
    right, down = x - left, y - top
    corner = top * width + left
    index = torch.stack([corner, corner + 1, corner + width, corner + width + 1], 1)
    share = torch.stack(
        [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], 1
    )
    table = maps.flatten(0, 1)
    moved = F.embedding_bag(index, table, per_sample_weights=share.to(maps.dtype), mode="sum")
    return moved.view_as(maps)


def _bias(radius: int, locality: float) -> Tensor:
    """(queries of a tile, keys of its window): what each pair's similarity changes by."""
    query = torch.arange(TILE) + radius
    key = torch.arange(TILE + 2 * radius)
    along = (query[:, None] - key) ** 2
    distance = (along[:, None, :, None] + along[None, :, None, :]).reshape(TILE**2, -1)
    return torch.where(distance <= radius**2, -locality * distance, OUTSIDE)


def sharpen(masks: Tensor) -> Tensor:
    """Soft masks drawn towards 0 and 1: averaging frame after frame would blur them."""
    inside, outside = masks.square(), (1 - masks).square()
    return inside / (inside + outside)
