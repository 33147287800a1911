"""Build a model by name and put it on a device, with its weights."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sam2vss_ros.errors import InputError, reason_of
from sam2vss_ros.sam2.cards import CARDS, ModelCard, model_card
from sam2vss_ros.sam2.checkpoint import load_weights, read_weights
from sam2vss_ros.sam2.functional import ImageFeatures, encode_image, set_image_size
from sam2vss_ros.sam2.options import PRESETS, TrackingOptions
from sam2vss_ros.sam2.tracker import Tracker
from sam2vss_ros.sam2.weights import existing_weights

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from sam2vss_ros.sam2.edgetam.network import EdgeTamSettings

log = logging.getLogger(__name__)

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Sam2Model:
    """A loaded model, ready for inference.

    `network` is in eval mode on `device`, without gradients. Its weights are float32; `dtype` is
    the type to run it in under `torch.autocast`, where float32 means no autocast. The side of the
    input in pixels is `network.image_size`, which may differ from the card's.
    """

    card: ModelCard
    network: SAM2Base
    device: torch.device
    dtype: torch.dtype

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.network.image_size)

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the input, a square whatever the image's `size`."""
        return self.image_size, self.image_size

    def mask_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the masks: a quarter of the input's."""
        return self.image_size // 4, self.image_size // 4

    def encode(self, images: Tensor) -> ImageFeatures:
        """The features of (B, 3, S, S) normalised images."""
        return encode_image(self.network, images)

    def new_tracker(self, slots: int, options: TrackingOptions) -> Tracker:
        """A tracker with a memory bank of its own."""
        return Tracker(self, slots, options)


def load_model(
    name: str,
    checkpoint: str = "",
    device: str = "auto",
    precision: str = "float32",
    image_size: int = 0,
) -> Sam2Model:
    """Build the named model and load its weights.

    `name` is one of `cards`, or the path of a YAML file, see `model_files`. `checkpoint` is a file
    in Meta's format (`.pt`), a `.safetensors` file with the same keys, or a folder as transformers
    saves its `Sam2VideoModel` or `EdgeTamVideoModel`. If empty, weights are looked for, see
    `weights`. `image_size` is the side of the square input in pixels, 0 for the model's own.
    `precision` applies to GPUs; a CPU always computes in float32.

    Raises ValueError, naming the argument, for an unknown model, device or precision or an
    `image_size` that is not a multiple of 32, or saying what is wrong with the YAML file;
    ModelUnavailableError for missing or wrong weights.
    """
    card, target, dtype = _check(name, device, precision, image_size)
    path = existing_weights(card, checkpoint)
    if path.is_dir():
        from sam2vss_ros.sam2.transformers_folder import read_config, read_folder_weights

        config = read_config(path, card)
        _check_size(card, config.image_size)
        network = build_network(card, image_size or config.image_size, config.edgetam)
        weights = read_folder_weights(path, network.state_dict(), card)
    else:
        network = build_network(card, image_size or card.image_size)
        weights = read_weights(path)
    load_weights(network, weights, path, name)
    return _ready(card, network, target, dtype)


def untrained_model(
    name: str, device: str = "auto", precision: str = "float32", image_size: int = 0
) -> Sam2Model:
    """The named model with random weights, always the same, to time it without a checkpoint.

    The weights of its last layers are scaled up so that masks have outlines. Arguments and errors
    are those of `load_model`.
    """
    card, target, dtype = _check(name, device, precision, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(card, image_size or card.image_size)
    decoder = network.sam_mask_decoder
    with torch.no_grad():
        decoder.pred_obj_score_head.layers[-1].weight.mul_(3000)
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(20)
    return _ready(card, network, target, dtype)


def _check(
    name: str, device: str, precision: str, image_size: int
) -> tuple[ModelCard, torch.device, torch.dtype]:
    """The card, device and dtype for these arguments; ValueError if one of them is invalid."""
    card = model_card(name)
    if card.by_affinity:
        others = ", ".join(c.name for c in CARDS.values() if not c.by_affinity)
        raise ValueError(f"model: {name} is no SAM 2; these are: {others}, and those of YAML files")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    _check_size(card, image_size)
    target = resolve_device(device)
    dtype = PRECISIONS[precision]
    if target.type == "cpu" and dtype != torch.float32:
        log.warning("precision: %s is for GPUs; on the CPU %s runs in float32", precision, name)
        dtype = torch.float32
    return card, target, dtype


def _check_size(card: ModelCard, image_size: int) -> None:
    if image_size < 0 or image_size % card.size_step:
        raise ValueError(
            f"image_size: {image_size} is not a multiple of {card.size_step} (0: the model's own, "
            f"{card.image_size})"
        )


def resolve_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first GPU, if any.

    Raises ValueError listing the devices of this machine.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device(gpus[0] if gpus else "cpu")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in ("cpu", *gpus):
        there = ", ".join(["auto", "cpu", *gpus])
        raise ValueError(f"device: {name!r} is not on this machine; there are {there}")
    return torch.device(wanted)


WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Instruction sets, as `ONEDNN_MAX_CPU_ISA` names them, that emulate it."""


def native_bfloat16(device: torch.device) -> bool:
    """Does the device multiply bfloat16 faster than float32? Unknown counts as no.

    On a CPU oneDNN multiplies, which may be told to use less than there is.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BFLOAT16:
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def build_network(
    card: ModelCard, image_size: int, edgetam: EdgeTamSettings | None = None
) -> SAM2Base:
    """Build an untrained network, on the CPU, for square inputs of `image_size` pixels.

    It is made as the YAML file of the `sam2` package, or of its owner, says; EdgeTAM by its own
    code, and as `edgetam` says that it was trained, None: as Meta's. Checkpoints fit every image
    size, because SAM 2 interpolates its position embeddings. Raises ValueError saying what is wrong
    with an owner's file.
    """
    from sam2vss_ros.sam2.construct import construct
    from sam2vss_ros.sam2.edgetam.network import build_edgetam

    if card.edgetam:
        return build_edgetam(image_size, edgetam)
    if card.model_file is not None:
        network = construct(card.model_file, image_size)
        _try(card, network)
        return network
    with resources.as_file(resources.files("sam2") / card.config) as path:
        return construct(path, image_size)


TRIAL_SIZE = 64
"""Pixels of the input on which a network of unknown making is tried."""


@torch.inference_mode()
def _try(card: ModelCard, network: SAM2Base) -> None:
    """Raise ValueError where the parts of a network do not fit together: it follows an object."""
    image_size = network.image_size
    try:
        set_image_size(network, TRIAL_SIZE)
        model = Sam2Model(card, network.eval(), torch.device("cpu"), torch.float32)
        features = model.encode(torch.zeros(1, 3, TRIAL_SIZE, TRIAL_SIZE))
        mask = torch.ones(1, TRIAL_SIZE // 4, TRIAL_SIZE // 4, dtype=torch.bool)
        tracker = model.new_tracker(1, PRESETS["exact"])
        tracker.start(features, tracker.from_masks(features, [0], mask))
        tracker.commit(features, tracker.step(features, [0]))
    except Exception as error:  # whatever torch makes of shapes that do not fit
        raise InputError(
            f"model: {card.model_file}: it cannot follow an object, its parts do not fit together: "
            f"{reason_of(error)}"
        ) from error
    set_image_size(network, image_size)


def _ready(
    card: ModelCard, network: SAM2Base, device: torch.device, dtype: torch.dtype
) -> Sam2Model:
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    from sam2vss_ros.sam2.edgetam.network import EdgeTam

    if isinstance(network, EdgeTam):
        network.image_encoder.trunk.fold()
    network = network.to(device).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, PositionEmbeddingSine):
            module.cache.clear()  # or what was made elsewhere is copied on every frame
    if not isinstance(network, EdgeTam):
        _keep_position_embedding(network)
    if device.type == "cpu":  # convolutions then output the layout `ChannelNorm` needs
        network.to(memory_format=torch.channels_last)
    return Sam2Model(card, network, device, dtype)


def _keep_position_embedding(network: SAM2Base) -> None:
    """Interpolate Hiera's position embedding once instead of for every image."""
    trunk = network.image_encoder.trunk
    side = network.image_size // 4
    embedding = trunk._get_pos_embed((side, side))
    trunk._get_pos_embed = lambda size: embedding
