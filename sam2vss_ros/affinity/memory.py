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

EMPTY = 0.02
"""A window whose masks nowhere exceed this is not read."""

CONDITIONING = 3
"""Frames that objects began on. Objects of earlier ones begin again as they are by then."""


@dataclass(frozen=True)
class Reading:
    """How finely, and where, a memory is read; lengths are places, one of a key each.

    stride: pixels of the input from place to place. patch: mask pixels on the side of a place.
    weights: squared lengths of the features at strides 16, 8 and 4 in a key. older: frames kept
    beside the last, one of every `spacing`. radius, older_radius, last_radius: how far from its
    place a thing may be on a conditioning frame, an older one, and on the last around where the
    flow leads. reach: how much less similar than the most similar place is still read.
    """

    stride: int
    patch: int
    weights: tuple[float, float, float]
    older: int
    spacing: int
    radius: int
    older_radius: int
    last_radius: int
    reach: float


COARSE = Reading(8, 4, (1.0, 1.0, 0.5), 2, 4, 10, 6, 4, 0.25)
FINE = Reading(4, 2, (1.0, 1.0, 1.0), 0, 1, 6, 6, 3, 0.15)
"""For small objects; what is large would blur."""

LOCALITY = 0.01
"""Similarity lost per squared place away from where the flow leads."""


def frame_keys(pyramid: tuple[Tensor, Tensor, Tensor], reading: Reading) -> Tensor:
    """(h, w, C) keys of length 1 from a trunk's (1, C, ., .) maps at strides 4, 8 and 16.

    Channels lose their mean over the image: what is everywhere tells nothing. Maps twice as fine as
    the keys hand over their four places as channels of their own, coarser ones are resampled.
    """
    fine, middle, coarse = pyramid
    size = tuple(fine.shape[-2:]) if reading.stride == 4 else tuple(middle.shape[-2:])
    parts = []
    for level, weight in zip((coarse, middle, fine), reading.weights, strict=True):
        part = level.float()
        part = part - part.mean((2, 3), keepdim=True)
        if part.shape[-2] > size[0]:
            part = F.pixel_unshuffle(part, 2)
        elif part.shape[-2] < size[0]:
            part = F.interpolate(part, size, mode="bilinear", align_corners=False)
        parts.append(F.normalize(part[0], dim=0) * weight**0.5)
    return F.normalize(torch.cat(parts), dim=0).permute(1, 2, 0).contiguous()


class AffinityMemory:
    """A bounded bank of frame keys and, for each object, its soft masks on those frames.

    grid: rows and columns of places on a frame. channels: of keys. objects: most that are followed.
    All storage is allocated at once, on the CPU or a GPU alike, keys and masks in `dtype`.
    """

    def __init__(
        self,
        reading: Reading,
        grid: tuple[int, int],
        channels: int,
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
        padded = [[TILE * n + 2 * r for n in self._tiles] for r in self._radii]
        like = torch.zeros(0, dtype=dtype, device=device)
        self._keys = [like.new_zeros(*size, channels) for size in padded]
        self._masks = [like.new_zeros(objects, *size, reading.patch**2) for size in padded]
        self._bias = [_bias(r, 0.0).to(like) for r in self._radii[:-1]]
        self._bias.append(_bias(reading.last_radius, LOCALITY).to(like))
        # Which objects have a mask on which frame.
        self._known = torch.zeros(self._last + 1, objects, dtype=torch.bool, device=device)
        self._last_keys = like.new_zeros(*grid, channels)
        self._last_masks = torch.zeros(objects, *self._mask_size(grid), device=device)
        # Whether a mask of the object lies in the tile's window of the frame.
        self._reach = torch.zeros(
            self._last + 1, objects, *self._tiles, dtype=torch.bool, device=device
        )
        self._age = 0

    def nbytes(self) -> int:
        """Bytes of the tensors; constant."""
        single = (self._known, self._last_keys, self._last_masks, self._reach)
        return sum(t.nbytes for t in (*self._keys, *self._masks, *self._bias, *single))

    def condition(self, frame: int, keys: Tensor) -> None:
        """Keep (h, w, C) keys as conditioning frame `frame`; no object has a mask there yet."""
        self._inner(self._keys[frame], frame).copy_(keys)
        self._masks[frame].zero_()
        self._reach[frame] = self._known[frame] = False

    def add_object(self, index: int, frame: int, mask: Tensor) -> None:
        """Object `index` has the soft (h * patch, w * patch) mask at conditioning frame `frame`,
        which is the present one: `remember` must follow."""
        self._inner(self._masks[frame][index], frame).copy_(self._to_patches(mask[None])[0])
        self._reach[frame, index] = self._in_reach(frame, torch.tensor([index]))[0]
        self._known[frame, index] = self._known[self._last, index] = True

    def remove_object(self, index: int) -> None:
        """Forget object `index`; its place may be given to another."""
        for masks in self._masks:
            masks[index] = 0
        self._last_masks[index] = 0
        self._known[:, index] = False
        self._reach[:, index] = False

    def remember(self, keys: Tensor, masks: Tensor) -> None:
        """Keep a frame's (h, w, C) keys and (objects, h * patch, w * patch) soft masks, as
        corrected by whatever followed `read`, for the frame after."""
        if self._older and self._age and self._age % self.reading.spacing == 0:
            slot = self._older[self._age // self.reading.spacing % len(self._older)]
            here = self._known[self._last].nonzero()[:, 0]
            self._masks[slot].zero_()
            self._reach[slot] = False
            if len(here):
                self._store(slot, self._last_keys, self._last_masks[here], here)
            self._known[slot] = self._known[self._last]
        self._last_keys.copy_(keys)
        self._last_masks.copy_(masks)
        self._age += 1

    def read(self, keys: Tensor, flow: Flow | None) -> Tensor:
        """(objects, h * patch, w * patch) soft masks, float32, at a frame of (h, w, C) keys.

        flow: from this frame to the last.
        """
        out = torch.zeros_like(self._last_masks)
        here = self._known.any(0).nonzero()[:, 0]
        if not len(here):
            return out
        past, masks = self._last_keys, self._last_masks[here]
        if flow is not None:
            size = (masks.shape[-2], masks.shape[-1])
            masks = carried(masks, flow.at(size, masks.device), "bilinear")
            places = flow.at(self.grid, past.device)
            past = carried(past.permute(2, 0, 1).float(), places, "bilinear")
            past = F.normalize(past, dim=0).permute(1, 2, 0)
        self._store(self._last, past, masks, here)
        patch = self.reading.patch**2
        read = masks.new_zeros(len(here), self._tiles[0] * self._tiles[1], TILE**2, patch)
        row, tiles = self._reach[:, here].any(0).flatten(1).nonzero(as_tuple=True)
        if len(tiles):
            read[row, tiles] = self._read_tiles(keys, here[row], tiles)
        out[here] = self._from_tiles(read)
        return out

    def _read_tiles(self, keys: Tensor, objects: Tensor, tiles: Tensor) -> Tensor:
        """(pairs of object and tile, queries, patch * patch)"""
        below, right = (TILE * n - side for n, side in zip(self._tiles, self.grid, strict=True))
        # The affinity of a tile is computed once, whatever the number of objects in reach of it.
        active, place = tiles.unique(return_inverse=True)
        queries = _windows(F.pad(keys.to(self._dtype), (0, 0, 0, right, 0, below)), 0, active)
        frames = [i for i, known in enumerate(self._known) if known.any()]
        scores = []
        for i in frames:
            window = _windows(self._keys[i], self._radii[i], active)
            scores.append(torch.baddbmm(self._bias[i], queries, window.transpose(1, 2)))
        best = torch.stack([score.amax(-1) for score in scores]).amax(0)[..., None]
        mass = self._last_masks.new_zeros(len(tiles), TILE**2, self.reading.patch**2)
        total = self._last_masks.new_zeros(len(tiles), TILE**2, 1)
        for i, score in zip(frames, scores, strict=True):
            # As sharp as an exponential, but it ends: what is far less similar has no say at all.
            weights = score.sub_(best - self.reading.reach).clamp_(min=0).square_()
            known = self._known[i, objects].float()[:, None, None]
            sums = weights.sum(-1, keepdim=True, dtype=torch.float32)
            total.addcmul_(sums.index_select(0, place), known)
            pairs = self._reach[i].flatten(1)[objects, tiles].nonzero()[:, 0]
            window = _windows(self._masks[i], self._radii[i], tiles[pairs], objects[pairs])
            mass[pairs] += torch.bmm(weights.index_select(0, place[pairs]), window)
        return mass / total.clamp(min=1e-6)

    def _in_reach(self, frame: int, objects: Tensor) -> Tensor:
        """(B, rows, columns) bool: whether a mask lies in a tile's window of the frame."""
        highest = self._masks[frame][objects].amax(3).float()
        return F.max_pool2d(highest, TILE + 2 * self._radii[frame], TILE) > EMPTY

    def _store(self, frame: int, keys: Tensor, masks: Tensor, objects: Tensor) -> None:
        """Keep a frame's keys, and the (B, ., .) masks of B objects on it."""
        self._inner(self._keys[frame], frame).copy_(keys)
        self._inner(self._masks[frame], frame)[objects] = self._to_patches(masks).to(self._dtype)
        self._reach[frame, objects] = self._in_reach(frame, objects)

    def _inner(self, padded: Tensor, frame: int) -> Tensor:
        """The part of (..., H, W, C) storage that lies in the image."""
        r = self._radii[frame]
        rows, columns = self.grid
        return padded[..., r : r + rows, r : r + columns, :]

    def _mask_size(self, places: tuple[int, int]) -> tuple[int, int]:
        """Mask pixels of so many rows and columns of places."""
        return places[0] * self.reading.patch, places[1] * self.reading.patch

    def _to_patches(self, masks: Tensor) -> Tensor:
        """(B, h * patch, w * patch) -> (B, h, w, patch * patch)"""
        return F.pixel_unshuffle(masks[:, None], self.reading.patch).permute(0, 2, 3, 1)

    def _from_tiles(self, tiles: Tensor) -> Tensor:
        """(B, tiles, queries, patch * patch) -> (B, h * patch, w * patch)"""
        patch, (down, across) = self.reading.patch, self._tiles
        maps = tiles.view(len(tiles), down, across, TILE, TILE, patch, patch)
        whole = self._mask_size((TILE * down, TILE * across))
        maps = maps.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(tiles), *whole)
        rows, columns = self._mask_size(self.grid)
        return maps[:, :rows, :columns]


def _windows(padded: Tensor, radius: int, tiles: Tensor, objects: Tensor | None = None) -> Tensor:
    """([B,] H, W, C) padded by `radius` -> (tiles, side * side, C), the windows of the given tiles,
    each of its own one of the B `objects`."""
    side = TILE + 2 * radius
    padded = padded if objects is not None else padded[None]
    frames, height, width, channels = padded.shape
    columns = (width - 2 * radius) // TILE
    # One row of a window is contiguous, so a window is `side` rows of this overlapping view.
    lines = padded.as_strided(
        (frames, height, columns, side * channels),
        (height * width * channels, width * channels, TILE * channels, 1),
    )
    out = padded.new_empty(len(tiles), side, side * channels)
    frame = torch.zeros_like(tiles) if objects is None else objects
    places = torch.stack([frame, tiles // columns * TILE, tiles % columns], 1).tolist()
    for window, (n, row, column) in zip(out, places, strict=True):
        window.copy_(lines[n, row : row + side, column])
    return out.view(len(tiles), side * side, channels)


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
