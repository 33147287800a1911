"""The embedded segmentation network, small enough for every frame on one CPU thread.

Plain 3x3 convolutions down to stride 32 with dilated residual blocks, means over the whole map and
over its parts for context, and a light way back up to stride 4. Normalisation is folded into the
convolutions when the weights are loaded.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sam2vss_ros.semantics.catalog import ClassCatalog, catalog_data, parse_catalog
from sam2vss_ros.semantics.networks.inputs import Input
from sam2vss_ros.semantics.networks.network import TensorNetwork
from sam2vss_ros.semantics.weights_file import load_weights, refusing, save_weights

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "street.safetensors"

WIDTHS = (16, 32, 64, 128, 192)
"""Channels at strides 2, 4, 8, 16 and 32."""

DECODED = 64
"""Channels in which strides 32, 16 and 8 meet."""

CONTEXT_GRIDS = ((1, 1), (2, 2), (4, 4), (6, 1))
"""Rows and columns of the means that the context is made of."""

SIDE_STEP = 32
"""The sides of an input are multiples of the coarsest stride."""

PIXEL_MEAN, PIXEL_STD = (110 / 255,) * 3, (64 / 255,) * 3
"""Of images from 0 to 1."""


class Convolution(nn.Sequential):
    """A convolution that keeps the size, up to its stride, and its normalisation.

    gain: what the normalisation multiplies by at first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        gain: float = 1.0,
    ) -> None:
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(norm.weight, gain)
        super().__init__(convolution, norm)

    def folded(self) -> nn.Conv2d:
        """Both as one convolution, for inference."""
        convolution, norm = self
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, norm)


class Block(nn.Module):
    """Residual block: 3x3 down to half of the channels and a dilated 3x3 back; at first nothing."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.down = Convolution(channels, channels // 2)
        self.up = Convolution(channels // 2, channels, dilation=dilation, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.up(F.relu(self.down(x))))


class Stage(nn.Module):
    """Halve the size, then one block for each dilation."""

    def __init__(self, inputs: int, outputs: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.shrink = Convolution(inputs, outputs, stride=2)
        self.blocks = nn.Sequential(*(Block(outputs, d) for d in dilations))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(F.relu(self.shrink(x)))
        return out


class Context(nn.Module):
    """Join a map with its means over the whole, its quarters, smaller windows and its rows.

    After pyramid pooling (Zhao et al., "Pyramid Scene Parsing Network", 2017, section 3.2).
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(channels, outputs // 2, 1) for _ in CONTEXT_GRIDS)
        self.join = Convolution(channels + outputs // 2 * len(CONTEXT_GRIDS), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for grid, part in zip(CONTEXT_GRIDS, self.parts, strict=True):
            means = F.relu(part(F.adaptive_avg_pool2d(x, grid)))
            maps.append(
                F.interpolate(means, size=x.shape[-2:], mode="bilinear", align_corners=False)
            )
        return F.relu(self.join(torch.cat(maps, 1)))


class StreetNet(nn.Module):
    """(B, 3, H, W) normalised images, of sides that 32 divides -> (B, classes, H/4, W/4) logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = WIDTHS
        self.stem2 = Convolution(3, w2, stride=2)
        self.stem4 = Convolution(w2, w4, stride=2)
        self.stage8 = Stage(w4, w8, (1, 1))
        self.stage16 = Stage(w8, w16, (1, 2, 4))
        self.stage32 = Stage(w16, w32, (1, 2))
        self.context = Context(w32, DECODED)
        self.side16 = Convolution(w16, DECODED, 1)
        self.side8 = Convolution(w8, DECODED, 1)
        self.fuse16 = Convolution(DECODED, DECODED)
        self.fuse8 = Convolution(DECODED, DECODED)
        self.narrow = Convolution(DECODED, w4, 1)
        self.side4 = Convolution(w4, w4, 1)
        self.fuse4 = Convolution(w4, w4)
        self.classify = nn.Conv2d(w4, classes, 1)
        self.auxiliary = nn.ModuleList(nn.Conv2d(DECODED, classes, 1) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self._decode(images)[0])
        return logits

    def all_logits(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits at stride 4 and, for deep supervision, at strides 8 and 16."""
        at4, at8, at16 = self._decode(images)
        return self.classify(at4), self.auxiliary[0](at8), self.auxiliary[1](at16)

    def _decode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x4 = F.relu(self.stem4(F.relu(self.stem2(images))))
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        context = self.context(self.stage32(x16))
        y16 = F.relu(self.fuse16(F.relu(self.side16(x16) + _doubled(context))))
        y8 = F.relu(self.fuse8(F.relu(self.side8(x8) + _doubled(y16))))
        y4 = F.relu(self.fuse4(F.relu(self.side4(x4) + _doubled(self.narrow(y8)))))
        return y4, y8, y16


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def normalised(images: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 RGB -> float32, as `PIXEL_MEAN` and `PIXEL_STD` say."""
    return (images.float() - 255 * PIXEL_MEAN[0]) / (255 * PIXEL_STD[0])


def native_bfloat16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 faster than float32? Unknown counts as no."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True)
class NetworkCard:
    """What the weight file says beside the weights.

    shortest: pixels of the input's shorter side. temperature: what the logits are divided by,
    fitted on images kept out. training: figures on how the weights were made.
    """

    catalog: ClassCatalog
    shortest: int
    temperature: float
    training: dict[str, Any]


def ready(network: StreetNet, card: NetworkCard, name: str, device: torch.device) -> TensorNetwork:
    """The network for inference on `device`: images in, calibrated log probabilities out.

    It computes in bfloat16 where the device has it, and has a quarter of the input's resolution.
    """
    dtype = torch.bfloat16 if native_bfloat16(device) else torch.float32
    inference = folded(network).to(device, dtype)
    inference.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(images: Tensor) -> Tensor:
        logits = inference(images.to(dtype)).float()
        return F.log_softmax(logits / card.temperature, 1)

    prepare = Input(shortest=card.shortest, multiple=SIDE_STEP, mean=PIXEL_MEAN, std=PIXEL_STD)
    return TensorNetwork(name, card.catalog, prepare, torch.inference_mode()(run), device)


def folded(network: StreetNet) -> StreetNet:
    """A copy for inference, in which normalisation is part of the convolutions."""
    network = deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Convolution):
                setattr(module, name, child.folded())
    return network


def save_embedded(network: StreetNet, card: NetworkCard, path: Path) -> None:
    """Write the weights in half precision, with the card as metadata."""
    about = {
        "network": "StreetNet",
        "catalog": catalog_data(card.catalog),
        "shortest": card.shortest,
        "temperature": card.temperature,
        "training": card.training,
    }
    save_weights(path, network.state_dict(), about)


def load_embedded(path: Path, device: torch.device) -> TensorNetwork:
    """Load the weights that `sam2vss train network` wrote, ready for inference on `device`.

    Raises FileNotFoundError naming the file and how to make one; ValueError for a file that is
    none of ours or is damaged.
    """
    network, card = read_embedded(path)
    return ready(network, card, path.stem, device)


def read_embedded(path: Path) -> tuple[StreetNet, NetworkCard]:
    """The weights, as they were trained, and their card. Raises what `load_embedded` raises."""
    if not path.is_file():
        raise FileNotFoundError(
            f"network: {path} does not exist; 'sam2vss train network' makes such a file"
        )
    with refusing(f"network: {path} is not a file of this network"):
        tensors, about = load_weights(path)
        if about["network"] != "StreetNet":
            raise ValueError(f"it holds a {about['network']}")
        catalog = parse_catalog(about["catalog"], str(path))
        card = NetworkCard(
            catalog, int(about["shortest"]), float(about["temperature"]), about["training"]
        )
        network = StreetNet(len(catalog))
        network.load_state_dict(tensors)
    return network, card
