"""RepViT (arXiv 2307.09283), EdgeTAM's trunk, with the parameter names of timm's `repvit_m1`.

timm itself would bring torchvision along. Here blocks are also folded for inference: each batch
norm goes into the convolution before it, and the three branches of a token mixer into one kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (48, 96, 192, 384)
"""Channels of the feature maps, at strides 4, 8, 16 and 32."""

DEPTHS = (2, 2, 14, 2)
"""Blocks of each stage."""


class ConvNorm(nn.Sequential):
    """A convolution without bias, `c`, and its batch norm, `bn`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def folded(self) -> nn.Conv2d:
        """One convolution that gives the same."""
        conv, mean, variance = self.c, self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None
        scale = self.bn.weight * torch.rsqrt(variance + self.bn.eps)
        return _convolution(
            conv.weight * scale.view(-1, 1, 1, 1),
            self.bn.bias - mean * scale,
            conv.stride[0],
            conv.groups,
        )


class TokenMixer(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution of each channel alone, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mixed: Tensor = self.conv(x) + self.conv1(x) + x
        return mixed

    def folded(self) -> nn.Conv2d:
        """One 3 x 3 convolution that gives the same."""
        wide, point = self.conv.folded(), self.conv1.folded()
        assert wide.bias is not None and point.bias is not None
        centre = F.pad(point.weight + 1, (1, 1, 1, 1))
        return _convolution(wide.weight + centre, wide.bias + point.bias, 1, wide.groups)


def _convolution(weight: Tensor, bias: Tensor, stride: int, groups: int) -> nn.Conv2d:
    outputs, inputs, kernel, _ = weight.shape
    conv = nn.Conv2d(inputs * groups, outputs, kernel, stride, kernel // 2, groups=groups)
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


class ChannelMixer(nn.Module):
    """Two layers on the channels of each pixel, twice as many between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 2 * width)
        self.conv2 = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mixed: Tensor = self.conv2(F.gelu(self.conv1(x)))
        return mixed


class SqueezeExcite(nn.Module):
    """Weighs the channels by what their means over the image say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = -(-width // 32) * 8  # a quarter, rounded up to a multiple of 8
        self.fc1 = nn.Conv2d(width, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        weights = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()


class Block(nn.Module):
    """Mixes pixels, weighs channels if so wanted, then mixes channels."""

    def __init__(self, width: int, weigh: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if weigh else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        x = self.se(self.token_mixer(x))
        mixed: Tensor = x + self.channel_mixer(x)
        return mixed


class Downsample(nn.Module):
    """Halves the map and widens its channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, weigh=False)
        self.spatial_downsample = ConvNorm(inputs, inputs, 3, 2, groups=inputs)
        self.channel_downsample = ConvNorm(inputs, outputs)
        self.ffn = ChannelMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / 2, w / 2)."""
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        smaller: Tensor = x + self.ffn(x)
        return smaller


class Stage(nn.Module):
    """The blocks of one stride; every other one weighs its channels."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if inputs == width else Downsample(inputs, width)
        self.blocks = nn.Sequential(*(Block(width, weigh=i % 2 == 0) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        features: Tensor = self.blocks(self.downsample(x))
        return features


class Stem(nn.Module):
    """Brings the image to stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, 3, 2)
        self.conv2 = ConvNorm(width // 2, width, 3, 2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, C, h / 4, w / 4)."""
        features: Tensor = self.conv2(F.gelu(self.conv1(images)))
        return features


class RepViT(nn.Module):
    """The trunk as `sam2.modeling.backbones.image_encoder.ImageEncoder` takes it."""

    channel_list = list(reversed(WIDTHS))

    def __init__(self) -> None:
        super().__init__()
        inputs = (WIDTHS[0], *WIDTHS)
        stages = [Stage(*sizes) for sizes in zip(inputs[:4], WIDTHS, DEPTHS, strict=True)]
        named = {f"stages_{i}": stage for i, stage in enumerate(stages)}
        self.body = nn.ModuleDict({"stem": Stem(WIDTHS[0]), **named})

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, h, w) images -> (B, C, ., .) maps at strides 4, 8, 16 and 32, C of `WIDTHS`."""
        x: Tensor = images
        maps = []
        for part in self.body.values():
            x = part(x)
            maps.append(x)
        return maps[1:]

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the blocks, in place, once the weights are loaded; parameter names change."""
        _fold(self)


def _fold(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ConvNorm | TokenMixer):
            setattr(module, name, child.folded())
        else:
            _fold(child)
