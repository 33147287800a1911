"""Convolutions made ready for inference: normalisation folded into them and, for a CPU, weights as
oneDNN wants them and the activation in its pass.

PyTorch arranges the weights anew for every image, and clips in a pass of its own over maps that the
cache does not hold; with float32 and one thread it does not even ask oneDNN for 1x1 convolutions.
"""

from __future__ import annotations

import platform
import threading
from copy import deepcopy
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

N = TypeVar("N", bound=nn.Module)

SIZES = 12
"""Of inputs for which weights are kept. Cameras of more than these would pack anew each time."""


_PACKING = threading.Lock()
"""Several threads may look at images of different sizes."""


class Clipped(nn.Conv2d):
    """A convolution whose output is clipped to 0..6, as MobileNets do."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(super().forward(x))


class Convolution(nn.Sequential):
    """A convolution that keeps the size, but for its stride, and its normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        super().__init__(convolution, nn.BatchNorm2d(outputs))

    def folded(self) -> nn.Conv2d:
        """Both as one convolution, for inference."""
        convolution, norm = self
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, norm)


def folded(network: N) -> N:
    """A copy for inference, in which normalisation is part of the convolutions."""
    network = deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Convolution):
                setattr(module, name, child.folded())
    return network


class PackedConvolution(nn.Module):
    """A convolution, for inference; activation: `none`, `relu` or, clipped to 0..6, `hardtanh`.

    How weights lie best depends on the size of the input, but for most sizes it is the same: what
    was packed is kept for the last few, and to pack again the weights in half precision, where that
    holds them exactly, as our files do.
    """

    def __init__(self, convolution: nn.Conv2d, activation: str) -> None:
        super().__init__()
        self.weight, self.bias = _shortened(convolution.weight), convolution.bias
        self._dtype = convolution.weight.dtype
        c = convolution
        self._settings: list[Any] = [c.padding, c.stride, c.dilation, c.groups]
        self._activation = activation, [0.0, 6.0] if activation == "hardtanh" else [], ""
        self._packed: dict[torch.Size, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        weight = self._packed.get(x.shape)
        if weight is None:
            weight = self._pack(x.shape)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, self.bias, *self._settings, *self._activation
        )
        return made

    def _pack(self, size: torch.Size) -> Tensor:
        made: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            self.weight.to(self._dtype).to_mkldnn(), *self._settings, list(size)
        )
        with _PACKING:
            alike = (kept for kept in self._packed.values() if _layout(kept) == _layout(made))
            weight = next(alike, made)
            if len(self._packed) == SIZES:
                del self._packed[next(iter(self._packed))]
            self._packed[size] = weight
        return weight


def _layout(packed: Tensor) -> bytes:
    """How packed weights lie in memory, as oneDNN tells it."""
    description: Tensor = torch.ops.mkldnn._get_mkldnn_serialized_md(packed)
    return description.numpy().tobytes()


def _shortened(weight: Tensor) -> Tensor:
    """The same values, in half precision where that holds them."""
    half = weight.detach().half()
    return nn.Parameter(half, False) if torch.equal(half.to(weight.dtype), weight) else weight


def can_pack(weight: Tensor) -> bool:
    """Whether convolutions can be packed: on x86-64 processors, others were not tried, and in
    float32, or bfloat16 where oneDNN has it there."""
    if not (
        weight.device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        # What torch.compile uses, of no promised interface.
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_get_mkldnn_serialized_md")
    ):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def pack(network: nn.Module) -> None:
    """Pack the convolutions inside a network in place, where `can_pack` its weights.

    It computes the same but for rounding, in the type of its weights, without gradients.
    """
    if not can_pack(next(network.parameters())):
        return
    for module in list(network.modules()):
        children = [*module.named_children(), ("", None)]
        for (name, child), (after, follower) in pairwise(children):
            if not isinstance(child, nn.Conv2d):
                continue
            activation = "hardtanh" if isinstance(child, Clipped) else "none"
            if isinstance(module, nn.Sequential) and isinstance(follower, nn.ReLU):
                activation = "relu"
                setattr(module, after, nn.Identity())
            setattr(module, name, PackedConvolution(child, activation))
