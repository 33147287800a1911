"""The memory bank: what SAM 2 remembers of each object, in slots that are allocated once.

A slot holds the conditioning memory (the frame an object was prompted on), the most recent
memories and the object pointers. Its size follows from the network, so memory never grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor


@dataclass(frozen=True)
class Recall:
    """The memory of B objects that remember equally much, in the form of `attend_to_memory`."""

    slots: Tensor
    memories: Tensor
    memory_times: Tensor
    pointers: Tensor
    pointer_ages: Tensor


class MemoryBank:
    """`slots` objects x (1 conditioning + num_maskmem - 1 recent memories and the pointers)."""

    def __init__(self, network: SAM2Base, slots: int) -> None:
        device = next(network.parameters()).device
        side = network.image_size // network.backbone_stride
        self._recent_length = network.num_maskmem - 1
        self._pointer_length = network.max_obj_ptrs_in_encoder - 1
        memory = (network.mem_dim, side, side)
        self._anchor = torch.zeros(slots, *memory, device=device)
        self._anchor_pointer = torch.zeros(slots, network.hidden_dim, device=device)
        self._recent = torch.zeros(slots, self._recent_length, *memory, device=device)
        self._pointers = torch.zeros(slots, self._pointer_length, network.hidden_dim, device=device)
        # Writes since the conditioning frame; ring positions follow from it.
        self._age = torch.zeros(slots, dtype=torch.int64)

    def nbytes(self) -> int:
        """Bytes of the tensors; constant."""
        tensors = (self._anchor, self._anchor_pointer, self._recent, self._pointers, self._age)
        return sum(t.nbytes for t in tensors)

    def start(self, slot: int, memory: Tensor, pointer: Tensor) -> None:
        """Begin (or begin again) an object from its conditioning frame's memory and pointer."""
        self._anchor[slot] = memory
        self._anchor_pointer[slot] = pointer
        self._age[slot] = 0

    def write(self, slots: Tensor, memories: Tensor, pointers: Tensor) -> None:
        """Add what was seen on this frame; memories (B, D, h, w), pointers (B, C)."""
        age = self._age[slots]
        self._recent[slots, age % self._recent_length] = memories.to(self._recent.dtype)
        self._pointers[slots, age % self._pointer_length] = pointers.to(self._pointers.dtype)
        self._age[slots] = age + 1

    def recall(self, slots: list[int]) -> list[Recall]:
        """Group the slots by how much they remember and gather their memory.

        The frame being asked about is one later than the last one written. After
        `max_obj_ptrs_in_encoder` frames every object is in one group.
        """
        wanted = torch.tensor(slots, dtype=torch.int64)
        length = self._age[wanted].clamp(max=max(self._recent_length, self._pointer_length))
        return [self._gather(wanted[length == n]) for n in length.unique()]

    def _gather(self, slots: Tensor) -> Recall:
        age = self._age[slots]
        steps = torch.arange(int(age.min().clamp(max=self._recent_length)))
        recent = self._recent[slots[:, None], (age[:, None] - 1 - steps) % self._recent_length]
        back = torch.arange(int(age.min().clamp(max=self._pointer_length)))
        pointers = self._pointers[slots[:, None], (age[:, None] - 1 - back) % self._pointer_length]
        device = recent.device
        # The conditioning frame keeps one time code for ever; its pointer knows its true age.
        ages = torch.cat([age[:, None] + 1, (back + 1).expand(len(slots), -1)], 1)
        return Recall(
            slots,
            torch.cat([self._anchor[slots, None], recent], 1),
            torch.cat([torch.tensor([self._recent_length]), steps]).to(device),
            torch.cat([self._anchor_pointer[slots, None], pointers], 1),
            ages.float().to(device),
        )
