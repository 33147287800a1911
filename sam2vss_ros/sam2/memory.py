"""The memory bank: what SAM 2 remembers of each object, in slots that are allocated once.

A slot holds the conditioning memory (the frame an object was prompted on), the most recent
memories and the object pointers. Its size follows from the network, so memory never grows.

Where an endless stream differs from upstream's `_prepare_memory_conditioned_features`, which has
the whole video: the age of the conditioning frame's pointer stops at `OLDEST`. The conditioning
frame itself stays the one that the object was found on, until it is found again. And where it is
not written on every frame: a memory has the time code of its age in frames, the oldest code if it
is older than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.windows import Windows, sides_for, windows_around
from sam2vss_ros.transfer import upload

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

OLDEST = 4096
"""Frames after which the conditioning frame grows no older: beyond, its age says nothing new."""

AT_ONCE = 8
"""Objects in a batch on a CPU: what they take fits its caches, sixteen are a sixth slower each."""


@dataclass(frozen=True)
class Recall:
    """The memory of B objects that remember equally much, in the form of `attend_to_memory`.

    windows and memory_positions: where the objects are looked for and where their memories lie;
    None for everywhere.
    """

    slots: Tensor
    memories: Tensor
    memory_times: Tensor
    pointers: Tensor
    pointer_ages: Tensor
    windows: Windows | None
    memory_positions: Tensor | None


class MemoryBank:
    """`slots` objects x (1 conditioning + num_maskmem - 1 recent memories and the pointers).

    Memories are kept as tokens, (grid^2, D), with EdgeTAM as latents, (LATENTS, D). Beside each is
    the box of its object in tokens of the image, and the box where the object was last
    (`windows.boxes_of`): windows are laid around them.
    """

    def __init__(self, network: SAM2Base, slots: int) -> None:
        from sam2vss_ros.sam2.edgetam.network import EdgeTam
        from sam2vss_ros.sam2.edgetam.perceiver import LATENTS

        self._device = next(network.parameters()).device
        self.at_once = AT_ONCE if self._device.type == "cpu" else max(1, slots)
        self._slots = slots
        self._network = network
        self._grid = network.image_size // network.backbone_stride
        # Latents see the whole frame, so no window cuts them.
        self._squeezed = isinstance(network, EdgeTam)
        self._recent_length = network.num_maskmem - 1
        self._pointer_length = network.max_obj_ptrs_in_encoder - 1
        tokens = LATENTS if self._squeezed else self._grid**2
        self._memory_shape = (tokens, network.mem_dim)
        self._pointer_width = network.hidden_dim
        self.release()
        self.allocate()

    def allocate(self) -> None:
        """Take the memory, where it is not taken yet."""
        if self.nbytes():
            return
        slots, device = self._slots, self._device
        # The conditioning memory comes first, then the ring of recent ones.
        self._memories = torch.zeros(
            slots, 1 + self._recent_length, *self._memory_shape, device=device
        )
        self._pointers = torch.zeros(
            slots, 1 + self._pointer_length, self._pointer_width, device=device
        )
        self._boxes = torch.zeros(slots, 1 + self._recent_length, 4, dtype=torch.int64)
        self._last_box = torch.zeros(slots, 4, dtype=torch.int64)
        # Writes since the conditioning frame; ring positions follow from it.
        self._age = torch.zeros(slots, dtype=torch.int64)
        self._written = torch.zeros(slots, 1 + self._recent_length, dtype=torch.int64)  # at frame
        self._frame = 0

    def release(self) -> None:
        """Give the memory back; what it held is gone."""
        nothing = torch.zeros(0)
        self._memories = self._pointers = self._boxes = self._last_box = nothing
        self._age = self._written = nothing

    def nbytes(self) -> int:
        """Bytes of the tensors; constant between `allocate` and `release`, then 0."""
        tensors = (
            self._memories,
            self._pointers,
            self._boxes,
            self._last_box,
            self._age,
            self._written,
        )
        return sum(t.nbytes for t in tensors)

    def begin_frame(self) -> None:
        """What is recalled and written from now on belongs to the next frame."""
        self._frame += 1

    def start(self, slots: Tensor, memories: Tensor, pointers: Tensor, boxes: Tensor) -> None:
        """Begin (or begin again) objects from what their conditioning frames left behind.

        slots: (B,) int64. memories: (B, D, h, w). pointers: (B, C). boxes: (B, 4).
        """
        self._age[slots] = 0
        self._put(slots, torch.zeros_like(slots), torch.zeros_like(slots), memories, pointers)
        self._boxes[slots, 0] = boxes
        self._last_box[slots] = boxes

    def write(self, slots: Tensor, memories: Tensor, pointers: Tensor, boxes: Tensor) -> None:
        """Add what was seen on this frame; the arguments are those of `start`."""
        age = self._age[slots]
        place = 1 + age % self._recent_length
        self._put(slots, place, 1 + age % self._pointer_length, memories, pointers)
        self._boxes[slots, place] = boxes
        self._written[slots, place] = self._frame
        self._age[slots] = age + 1

    def note_boxes(self, slots: Tensor, boxes: Tensor) -> None:
        """Note where objects are on this frame, (B, 4), whether or not it is remembered."""
        self._last_box[slots] = boxes

    def _put(
        self, slots: Tensor, place: Tensor, pointer: Tensor, memories: Tensor, pointers: Tensor
    ) -> None:
        tokens = functional.memory_tokens(self._network, memories)
        slots, place, pointer = upload(torch.stack([slots, place, pointer]), self._device)
        self._memories[slots, place] = tokens.to(self._memories.dtype)
        self._pointers[slots, pointer] = pointers.to(self._pointers.dtype)

    def recall(self, slots: list[int]) -> list[Recall]:
        """Group the slots by how much they remember and by the size of their windows.

        After `max_obj_ptrs_in_encoder` frames an exact tracker has every object in one group, which
        a CPU takes in parts of AT_ONCE.
        """
        wanted = torch.tensor(slots, dtype=torch.int64)
        length = self._age[wanted].clamp(max=max(self._recent_length, self._pointer_length))
        kinds = torch.stack([length, self._sides(wanted)], 1)
        return [
            self._gather(part, int(kind[1]))
            for kind in kinds.unique(dim=0)
            for part in wanted[(kinds == kind).all(1)].split(self.at_once)
        ]

    def _sides(self, slots: Tensor) -> Tensor:
        """The side of each object's window: wide enough for its sight now and remembered."""
        places = torch.arange(self._boxes.shape[1])
        used = (places <= self._age[slots, None])[..., None]
        boxes = torch.where(used, self._boxes[slots], 0)
        boxes = torch.cat([boxes, self._last_box[slots, None]], 1)
        return sides_for(boxes, self._grid).amax(1)

    def _gather(self, slots: Tensor, side: int) -> Recall:
        age = self._age[slots]
        steps = torch.arange(int(age.min().clamp(max=self._recent_length)))
        recent = 1 + (age[:, None] - 1 - steps) % self._recent_length
        places = torch.cat([torch.zeros_like(slots)[:, None], recent], 1)
        back = torch.arange(int(age.min().clamp(max=self._pointer_length)))
        past = 1 + (age[:, None] - 1 - back) % self._pointer_length
        pointers = torch.cat([torch.zeros_like(slots)[:, None], past], 1)
        # The conditioning frame keeps one time code for ever; its pointer knows its true age.
        ages = torch.cat([(age[:, None] + 1).clamp(max=OLDEST), (back + 1).expand(len(age), -1)], 1)
        oldest = self._recent_length - 1
        times = (self._frame - 1 - self._written[slots[:, None], recent]).clamp(max=oldest)
        times = torch.cat([torch.full((len(slots), 1), self._recent_length), times], 1)
        device = self._memories.device
        rows, columns = upload(slots, device)[:, None], upload(places, device)
        windows, memory_positions = None, None
        if side < self._grid:
            windows = windows_around(self._last_box[slots], side, self._grid).to(device)
        if windows is None or self._squeezed:
            memories = self._memories[rows, columns]
        else:
            around = windows_around(
                self._boxes[slots[:, None], places].flatten(0, 1), side, self._grid
            )
            memory_positions = around.to(device).tokens().view(*places.shape, -1)
            memories = self._memories[rows[..., None], columns[..., None], memory_positions]
        return Recall(
            slots,
            memories,
            upload(times, device),
            self._pointers[rows, upload(pointers, device)],
            upload(ages.float(), device),
            windows,
            memory_positions,
        )
