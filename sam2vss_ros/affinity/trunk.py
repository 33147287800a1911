"""The trunk: MobileNetV2 (Sandler et al., CVPR 2018, table 2) up to stride 16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from sam2vss_ros.packing import Clipped

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
"""Expansion, channels, blocks and the stride of the first block."""

STEM = 32
TAPS = (3, 6, 13)
"""Blocks, counted from the stem, whose outputs are wanted: the last at strides 4, 8 and 16."""

CHANNELS = (24, 32, 96)
"""Channels of these outputs."""

EPS = 1e-5
"""Of the batch normalisation of the published weights."""


class Trunk(nn.Module):
    """(B, 3, H, W) normalised images, of sides that 16 divides -> maps at strides 4, 8 and 16.

    For inference: batch normalisation is part of the convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = Clipped(3, STEM, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([stem, *stages(STEM, STAGES)])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.finest(images)
        middle = self._through(fine, TAPS[0], TAPS[1])
        return fine, middle, self._through(middle, TAPS[1], TAPS[2])

    def finest(self, images: Tensor) -> Tensor:
        """The map at stride 4 alone."""
        return self._through(images, -1, TAPS[0])

    def _through(self, x: Tensor, after: int, last: int) -> Tensor:
        for i in range(after + 1, last + 1):
            x = self.blocks[i](x)
        return x


class Bottleneck(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1); onto its input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = Clipped(inputs, hidden, 1) if expansion > 1 else None
        self.filter = Clipped(hidden, hidden, 3, stride, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.filter(hidden))
        return x + out if self.residual else out


def stages(channels: int, plan: Iterable[tuple[int, int, int, int]]) -> list[Bottleneck]:
    """The blocks of stages, from so many channels on; plan: as `STAGES`."""
    blocks = []
    for expansion, outputs, count, stride in plan:
        for i in range(count):
            blocks.append(Bottleneck(channels, outputs, stride if i == 0 else 1, expansion))
            channels = outputs
    return blocks


def folded_weights(
    state: Mapping[str, Tensor], blocks: Mapping[int, nn.Module] | None = None
) -> dict[str, Tensor]:
    """Weights of `Trunk` from those of a MobileNetV2 as PyTorch's implementations name them.

    state: `features.N.conv.M.weight` and so on, each convolution followed by its normalisation.
    blocks: those wanted, by their number from the stem, 0; None: those of `Trunk`.
    Raises KeyError for a name that is missing.
    """
    folded: dict[str, Tensor] = {}
    for i, block in (dict(enumerate(Trunk().blocks)) if blocks is None else blocks).items():
        names = ["expand.", "filter.", "project."] if isinstance(block, Bottleneck) else [""]
        if isinstance(block, Bottleneck) and block.expand is None:
            names.remove("expand.")
        # In a block, convolution, normalisation and clipping are at 3 j, 3 j + 1 and 3 j + 2.
        place = f"features.{i}.conv." if isinstance(block, Bottleneck) else f"features.{i}."
        for j, name in enumerate(names):
            norm = {k: state[f"{place}{3 * j + 1}.{k}"] for k in _NORM}
            gain = norm["weight"] / (norm["running_var"] + EPS).sqrt()
            kernel = state[f"{place}{3 * j}.weight"] * gain[:, None, None, None]
            folded[f"blocks.{i}.{name}weight"] = kernel
            folded[f"blocks.{i}.{name}bias"] = norm["bias"] - norm["running_mean"] * gain
    return folded


_NORM = ("weight", "bias", "running_mean", "running_var")
