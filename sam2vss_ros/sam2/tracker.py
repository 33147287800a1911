"""Streaming tracking with SAM 2: all objects of a stream in one batch, step and memory apart.

`step` follows every object to a new frame, `commit` writes what was decided about it to memory;
between the two the caller may resolve overlaps or drop objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.memory import MemoryBank, Recall
from sam2vss_ros.sam2.options import PRESETS, TrackingOptions
from sam2vss_ros.sam2.windows import (
    LEAST_GRID,
    OUTSIDE,
    Windows,
    boxes_of,
    sides_for,
    windows_around,
)
from sam2vss_ros.transfer import upload, upload_index
from sam2vss_ros.types import Prompt

if TYPE_CHECKING:
    from sam2vss_ros.sam2.build import Sam2Model
    from sam2vss_ros.stream.motion import Flow


@dataclass(frozen=True)
class Tracked:
    """B objects on the current frame, in the order of `slots`; B may be 0.

    masks: (B, S/4, S/4) float32 logits; predicted_iou, score: (B,) IoU from 0 to 1 and object
    score logit (above 0: the object is there); pointers: (B, C).
    """

    slots: tuple[int, ...]
    masks: Tensor
    predicted_iou: Tensor
    score: Tensor
    pointers: Tensor

    def take(self, index: list[int]) -> Tracked:
        """The objects at positions `index`."""
        rows = upload_index(index, self.masks.device)
        return Tracked(
            tuple(self.slots[i] for i in index),
            self.masks[rows],
            self.predicted_iou[rows],
            self.score[rows],
            self.pointers[rows],
        )

    @staticmethod
    def join(parts: list[Tracked]) -> Tracked:
        """One batch of several, at least one. Masks are of one size, but those of none any."""
        parts = [p for p in parts if p.slots] or parts[:1]
        return Tracked(
            tuple(s for p in parts for s in p.slots),
            torch.cat([p.masks for p in parts]),
            torch.cat([p.predicted_iou for p in parts]),
            torch.cat([p.score for p in parts]),
            torch.cat([p.pointers for p in parts]),
        )


class Tracker:
    """SAM 2's video stages on the memory of one camera stream.

    options: what may be left out of the arithmetic; the default is exact. may_rest: an object that
    `step` is not asked for keeps its memory.
    """

    may_rest = True
    weighs_signs = False

    def __init__(
        self, model: Sam2Model, slots: int, options: TrackingOptions = PRESETS["exact"]
    ) -> None:
        self.network = model.network
        self.device = model.device
        self.options = options
        self.bank = MemoryBank(model.network, slots)
        self._grid = model.network.image_size // model.network.backbone_stride

    def nothing(self) -> Tracked:
        """A batch without objects."""
        side, device = self.network.image_size // 4, self.device
        none = torch.zeros(0, device=device)
        pointers = torch.zeros(0, self.network.hidden_dim, device=device)
        return Tracked((), torch.zeros(0, side, side, device=device), none, none, pointers)

    def prepare(self, features: functional.ImageFeatures) -> None:
        """Nothing: what `step` wants of an image, the image encoder has computed."""

    def step(
        self, features: functional.ImageFeatures, slots: list[int], flow: Flow | None = None
    ) -> Tracked:
        """Find the objects of `slots`, in their order, on the next frame; once a frame.

        flow: not needed, as memory attention finds things where they have gone.
        """
        self.bank.begin_frame()
        if not slots:
            return self.nothing()
        parts = [self._attend(features, recall) for recall in self.bank.recall(slots)]
        tracked = Tracked.join([self._find(features, part) for part in _whole_images_joined(parts)])
        if tracked.slots != tuple(slots):
            tracked = tracked.take([tracked.slots.index(slot) for slot in slots])
        self.bank.note_boxes(torch.tensor(tracked.slots), self._boxes(tracked))
        return tracked

    def weigh(self, tracked: Tracked, signs: Tensor) -> Tracked:
        """The same: whether objects are there is said by the decoder."""
        return tracked

    def _attend(self, features: functional.ImageFeatures, recall: Recall) -> _Attended:
        pixels = functional.attend_to_memory(
            self.network,
            features,
            recall.memories,
            recall.memory_times,
            recall.pointers,
            recall.pointer_ages,
            recall.windows,
            recall.memory_positions,
        )
        return _Attended(recall.slots.tolist(), pixels, recall.windows)

    def _find(self, features: functional.ImageFeatures, attended: _Attended) -> Tracked:
        network, windows = self.network, attended.windows
        high_res = features.high_res
        if windows is not None:
            high_res = (windows.crop(high_res[0]), windows.crop(high_res[1]))
        multimask = network.multimask_output_for_tracking
        single = not multimask and not network.sam_mask_decoder.dynamic_multimask_via_stability
        decoded = functional.decode(
            network, attended.pixels, high_res, windows=windows, single=single
        )
        found = self._choose(decoded, attended.slots, multimask)
        if windows is None:
            return found
        side = network.image_size // 4
        outside = found.masks.new_full((len(found.slots), 1, side, side), OUTSIDE)
        masks = windows.paste(found.masks[:, None], outside)[:, 0]
        return dataclasses.replace(found, masks=masks)

    def _choose(self, decoded: functional.Decoded, slots: list[int], multimask: bool) -> Tracked:
        """Pick each object's mask as upstream's `_forward_sam_heads` does."""
        network, decoder = self.network, self.network.sam_mask_decoder
        rows = torch.arange(len(decoded.masks), device=decoded.masks.device)
        best = torch.zeros_like(rows)
        if multimask:
            best = decoded.ious[:, 1:].argmax(1) + 1
        masks, ious = decoded.masks[rows, best][:, None], decoded.ious[rows, best][:, None]
        if not multimask and decoder.dynamic_multimask_via_stability:
            masks, ious = decoder._dynamic_multimask_via_stability(decoded.masks, decoded.ious)
        token = best if multimask and network.use_multimask_token_for_obj_ptr else best * 0
        visible = (decoded.score > 0).float()
        return Tracked(
            tuple(slots),
            functional.hide_absent(masks, visible)[:, 0].float(),
            ious[:, 0].float(),
            decoded.score[:, 0].float(),
            functional.object_pointer(network, decoded.tokens[rows, token], visible),
        )

    def commit(self, features: functional.ImageFeatures, tracked: Tracked) -> None:
        """Write the objects as seen on this frame to their memory."""
        if not tracked.slots:
            return
        boxes = self._boxes(tracked)
        memories = self._encode(features, tracked, boxes)
        slots = torch.tensor(tracked.slots)
        self.bank.write(slots, memories, tracked.pointers, boxes)

    def start(self, features: functional.ImageFeatures, seen: Tracked) -> None:
        """Begin objects whose conditioning frame is this one."""
        boxes = self._boxes(seen)
        memories = self._encode(features, seen, boxes, prompted=True)
        self.bank.start(torch.tensor(seen.slots), memories, seen.pointers, boxes)

    def _boxes(self, tracked: Tracked) -> Tensor:
        """Where the objects are, (B, 4) on the CPU; without windows they may be anywhere."""
        if self.options.local and self._grid >= LEAST_GRID:
            return boxes_of(tracked.masks, self._grid).cpu()
        return torch.tensor([0, 0, self._grid, self._grid]).expand(len(tracked.slots), 4)

    def _encode(
        self,
        features: functional.ImageFeatures,
        tracked: Tracked,
        boxes: Tensor,
        prompted: bool = False,
    ) -> Tensor:
        """(B, D, h, w) memories, in groups of one window size."""
        network, grid = self.network, self._grid
        sides = sides_for(boxes, grid)
        memories = tracked.masks.new_empty(len(boxes), network.mem_dim, grid, grid)
        groups = [
            (side, index)
            for side in sides.unique().tolist()
            for index in (sides == side).nonzero()[:, 0].split(self.bank.at_once)
        ]
        for side, index in groups:
            rows = upload(index, self.device)
            masks = tracked.masks[rows][:, None]
            visible = (tracked.score[rows][:, None] > 0).float()
            if side == grid:
                masks = functional.full_size(masks, network.image_size)
                part = functional.encode_memory(network, features, masks, visible, prompted)
            else:
                windows = windows_around(boxes[index], side, grid).to(self.device)
                part = functional.encode_memory_in_windows(
                    network, features, masks, visible, windows, prompted
                )
            memories[rows] = part.to(memories.dtype)
        return memories

    def from_masks(
        self, features: functional.ImageFeatures, slots: list[int], masks: Tensor
    ) -> Tracked:
        """Take (B, s, s) bool masks of any size s as given, as upstream's `_use_mask_as_output`.

        The masks are not empty. Those of size S/4 come back as they are.
        """
        network, size = self.network, self.network.image_size
        wanted = masks[:, None].float()
        given = F.interpolate(wanted, size=(size, size))
        decoded = functional.decode_mask_prompt(network, features, given)
        certain = decoded.score.new_ones(len(slots), dtype=torch.float32)
        return Tracked(
            tuple(slots),
            _resample(wanted * 20 - 10, size // 4)[:, 0],
            certain,
            certain * 10,
            functional.object_pointer(
                network, decoded.tokens[:, 0], visible=(decoded.score > 0).float()
            ),
        )

    def from_prompt(
        self, features: functional.ImageFeatures, slot: int, prompt: Prompt, size: tuple[int, int]
    ) -> Tracked:
        """Decode a user's prompt; `size` is the camera image's (height, width)."""
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask).float()[None, None].to(self.device)
            return self.from_masks(features, [slot], self._model_mask(mask))
        points, labels = _points_of(prompt)
        scale = self.network.image_size / torch.tensor([size[1], size[0]], dtype=torch.float32)
        pixels = functional.without_memory(self.network, features)
        decoded = functional.decode(
            self.network,
            pixels,
            features.high_res,
            ((points * scale)[None].to(self.device), labels[None].to(self.device)),
        )
        return self._choose(decoded, [slot], multimask=len(labels) == 1)

    def _model_mask(self, mask: Tensor) -> Tensor:
        """A (1, 1, height, width) mask of 0 and 1 -> (1, s, s) bool as `from_masks` takes it."""
        size = self.network.image_size
        given = _resample(mask, size) >= 0.5
        low = _resample(mask, size // 4)
        if not (_resample(given.float(), size // 4) > 0.5).any():
            # Smaller than a pixel of the model's masks: it grows to the one it touches most.
            given = low == low.max()
        return given[:, 0]


@dataclass(frozen=True)
class _Attended:
    """The decoder's input for the objects of `slots`, (B, C, ., .), in their windows if any."""

    slots: list[int]
    pixels: Tensor
    windows: Windows | None


def _whole_images_joined(parts: list[_Attended]) -> list[_Attended]:
    """The same with those without windows in one batch: the decoder, other than attention, takes
    less for each of many objects."""
    whole = [part for part in parts if part.windows is None]
    joined = [p for p in parts if p.windows is not None]
    if whole:
        slots = [slot for part in whole for slot in part.slots]
        joined.append(_Attended(slots, torch.cat([part.pixels for part in whole]), None))
    return joined


def _resample(maps: Tensor, size: int) -> Tensor:
    """Upstream's resampling of mask prompts: (B, 1, ., .) -> (B, 1, size, size)."""
    return F.interpolate(
        maps, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def _points_of(prompt: Prompt) -> tuple[Tensor, Tensor]:
    """(P, 2) pixels and (P,) labels in upstream's code, where a box is two labelled corners."""
    if prompt.box is not None:
        corners = torch.tensor(prompt.box, dtype=torch.float32).view(2, 2)
        return corners, torch.tensor([2, 3], dtype=torch.int32)
    assert prompt.points is not None and prompt.point_labels is not None
    return (
        torch.from_numpy(prompt.points).float(),
        torch.from_numpy(prompt.point_labels).to(torch.int32),
    )
