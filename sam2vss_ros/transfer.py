"""What goes between the host and a GPU, without more waiting than needed.

A plain `Tensor.to` waits until the GPU has done all it was asked to, in either direction, however
little is copied, and so does an index that is a list or lies on the CPU. On a CPU nothing here
copies anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; the copy is pinned and queued, nobody waits for it."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def upload_index(index: Sequence[int], device: torch.device) -> Tensor:
    """Positions as an int64 index for tensors on `device`."""
    return upload(torch.tensor(index, dtype=torch.int64), device)


def download(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one device on the CPU, after waiting for it once."""
    filled = [i for i, tensor in enumerate(tensors) if tensor.numel()]
    # The copies are queued in order, so that the last one is there after all others.
    return tuple(
        tensor.to("cpu", non_blocking=i != filled[-1]) if tensor.numel() else tensor.cpu()
        for i, tensor in enumerate(tensors)
    )
