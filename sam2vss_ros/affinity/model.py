"""The embedded tracking model: an ImageNet trunk whose features are compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2vss_ros.affinity.correction import Correction
from sam2vss_ros.affinity.decoder import MaskDecoder, load_decoder
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.keys import KeyNet, load_keys
from sam2vss_ros.affinity.outline import OutlineNet, load_outline
from sam2vss_ros.affinity.presence import PresenceNet, load_presence
from sam2vss_ros.affinity.tracker import AffinityTracker
from sam2vss_ros.affinity.trunk import Trunk
from sam2vss_ros.packing import pack
from sam2vss_ros.sam2.build import native_bfloat16, resolve_device
from sam2vss_ros.sam2.cards import ModelCard, model_card
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights
from sam2vss_ros.sam2.options import TrackingOptions
from sam2vss_ros.sam2.weights import EMBEDDED_FOLDER, existing_weights

SIZE_STEP = 32
"""The sides of an input are multiples of this."""


@dataclass(frozen=True)
class AffinityModel:
    """A loaded model, ready for inference on images of `image_size` pixels on the longer side.

    network is the trunk, key_net makes what is compared of its features, outline finds masks by
    points and boxes, decoder corrects masks, presence says whether objects are there. The trunk
    computes in `trunk_dtype`, bfloat16 where the device has it; `dtype` is that of everything else.
    """

    card: ModelCard
    network: Trunk
    key_net: KeyNet
    outline: OutlineNet
    decoder: MaskDecoder
    presence: PresenceNet
    device: torch.device
    image_size: int
    trunk_dtype: torch.dtype
    dtype: torch.dtype = torch.float32

    def input_size(self, size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Height and width of the input, in the aspect of an image of `size`. scale: of the usual
        one."""
        return input_size(size, self.image_size * scale)

    def mask_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the masks: half of the input's."""
        height, width = self.input_size(size)
        return height // 2, width // 2

    def encode(self, images: Tensor) -> TrunkFeatures:
        """The trunk's features of (B, 3, h, w) normalised images."""
        return TrunkFeatures(self.network(self._pixels(images)), images, self.key_net)

    def encode_finest(self, images: Tensor) -> Tensor:
        """Of these features the finest, (B, 24, h/4, w/4): what the dense head goes on from."""
        return self.network.finest(self._pixels(images))

    def _pixels(self, images: Tensor) -> Tensor:
        return images.to(self.trunk_dtype, memory_format=torch.channels_last)

    def new_tracker(self, slots: int, options: TrackingOptions) -> AffinityTracker:
        """A tracker with a memory of its own."""
        return AffinityTracker(
            self.outline,
            self.presence,
            Correction(self.decoder, slots, self.device),
            slots,
            options,
            self.device,
            self.trunk_dtype,
        )


def input_size(size: tuple[int, int], longer: float) -> tuple[int, int]:
    """Height and width of the input, the larger one about `longer`, in the aspect of images of
    `size`."""
    scale = longer / max(size) / SIZE_STEP
    height, width = (max(1, round(side * scale)) * SIZE_STEP for side in size)
    return height, width


def longer_side(card: ModelCard, image_size: int = 0) -> int:
    """Pixels of the longer side of the input; 0: the model's own. Raises ValueError."""
    if image_size % SIZE_STEP:
        raise ValueError(
            f"image_size: {image_size} is not a multiple of {SIZE_STEP} (0: the model's own, "
            f"{card.image_size})"
        )
    return image_size or card.image_size


def read_trunk(card: ModelCard, checkpoint: str = "") -> Trunk:
    """The trunk as it was trained, in float32 on the CPU.

    checkpoint: as `load_affinity_model` takes it. Raises ModelUnavailableError.
    """
    network = Trunk()
    path = existing_weights(card, checkpoint)
    load_weights(network, read_weights(path), path, card.name)
    return network.eval().requires_grad_(False)


def load_affinity_model(
    name: str, checkpoint: str = "", device: str = "auto", image_size: int = 0
) -> AffinityModel:
    """Load the named model.

    checkpoint: a `.safetensors` file of the trunk's weights; empty: those of the package.
    Those of the keys and of the outline network are always the package's.
    image_size: longer side of the input in pixels; 0: the model's own.
    Raises ValueError, naming the argument; ModelUnavailableError for missing or wrong weights.
    """
    card, target = model_card(name), resolve_device(device)
    size = longer_side(card, image_size)
    network = read_trunk(card, checkpoint)
    dtype = torch.bfloat16 if native_bfloat16(target) else torch.float32
    network = network.to(target, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pack(network)
    keys = load_keys(EMBEDDED_FOLDER / f"{card.name}_keys.safetensors", target)
    outline = load_outline(EMBEDDED_FOLDER / f"{card.name}_outline.safetensors", target)
    decoder = load_decoder(EMBEDDED_FOLDER / f"{card.name}_decoder.safetensors", target, dtype)
    presence = load_presence(EMBEDDED_FOLDER / f"{card.name}_presence.safetensors", target)
    return AffinityModel(card, network, keys, outline, decoder, presence, target, size, dtype)
