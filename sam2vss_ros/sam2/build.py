"""Model name -> network with weights, on its device."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base

from sam2vss_ros.sam2.cards import ModelCard, model_card
from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.sam2.norms import use_channel_norms
from sam2vss_ros.sam2.weights import fetch_weights, find_weights, load_weights, read_weights

log = logging.getLogger(__name__)

SIZE_STEP = 32
"""Hiera tiles its window position embedding (8 x 8) over a stride-4 grid: sides are 32 n."""

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Sam2Model:
    """A loaded model, ready for inference.

    `network` is in eval mode on `device`, without gradients. Its weights are float32; `dtype` is
    the arithmetic to run it in under `torch.autocast`, float32 meaning no autocast. `network
    .image_size` is the side of the input in pixels, which may differ from the card's.
    """

    card: ModelCard
    network: SAM2Base
    device: torch.device
    dtype: torch.dtype


def load_model(
    name: str,
    checkpoint: str = "",
    device: str = "auto",
    precision: str = "float32",
    image_size: int = 0,
) -> Sam2Model:
    """Build the named model and load its weights.

    `checkpoint` is a file in Meta's format (`.pt`) or a `.safetensors` file with the same keys;
    empty: the embedded weights for nano, the usual places for the others. `image_size` is the
    side of the square input in pixels, 0 for the model's own. `precision` applies to GPUs; on a
    CPU the arithmetic is always float32.

    Raises ValueError, naming the argument, for an unknown model, device or precision or an
    `image_size` that is no multiple of 32; ModelUnavailableError for missing or wrong weights.
    """
    card, target, dtype = _check(name, device, precision, image_size)
    path = find_weights(card, checkpoint) or fetch_weights(card)
    network = build_network(card, image_size or card.image_size)
    load_weights(network, read_weights(path), path, name)
    return _ready(card, network, target, dtype)


def untrained_model(
    name: str, device: str = "auto", precision: str = "float32", image_size: int = 0
) -> Sam2Model:
    """The named model with the same random weights every time: it takes as long as a trained one.

    Its last layers are widened so that masks have outlines. Arguments and errors as `load_model`.
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
    """What is asked for, or ValueError."""
    card = model_card(name)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if image_size < 0 or image_size % SIZE_STEP:
        raise ValueError(
            f"image_size: {image_size} is not a multiple of {SIZE_STEP} (0: the model's own, "
            f"{card.image_size})"
        )
    target = resolve_device(device)
    dtype = PRECISIONS[precision]
    if target.type == "cpu" and dtype != torch.float32:
        log.warning("precision: %s is for GPUs; on the CPU %s runs in float32", precision, name)
        dtype = torch.float32
    return card, target, dtype


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` -> the device; `auto` takes the first GPU if there is one.

    Raises ValueError naming the devices of this machine.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device(gpus[0] if gpus else "cpu")
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in ("cpu", *gpus):
        there = ", ".join(["auto", "cpu", *gpus])
        raise ValueError(f"device: {name!r} is not on this machine; there are {there}")
    return torch.device(wanted)


def build_network(card: ModelCard, image_size: int) -> SAM2Base:
    """The untrained network of a card, on the CPU, for square inputs of `image_size` pixels.

    Meta's models are composed from the YAML inside `sam2`, with the settings its own video
    predictor is built with (`build_sam2_video_predictor`, apply_postprocessing): masks from
    clicks are binarised for the memory, and an unstable single mask gives way to the best of
    three. No checkpoint depends on the image size: SAM 2 interpolates its position embeddings.
    """
    if not card.config:
        return build_nano(image_size)
    with resources.as_file(resources.files("sam2") / card.config) as path:
        settings = OmegaConf.load(path).model
    settings.image_size = image_size
    settings.binarize_mask_from_pts_for_mem_enc = True
    settings.sam_mask_decoder_extra_args = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    network = instantiate(settings)
    assert isinstance(network, SAM2Base)
    use_channel_norms(network)
    return network


def _ready(
    card: ModelCard, network: SAM2Base, device: torch.device, dtype: torch.dtype
) -> Sam2Model:
    network = network.to(device).eval().requires_grad_(False)
    if device.type == "cpu":  # the norms need channels last; so convolutions give them
        network.to(memory_format=torch.channels_last)
    _keep_position_embedding(network)
    return Sam2Model(card, network, device, dtype)


def _keep_position_embedding(network: SAM2Base) -> None:
    """Interpolate Hiera's position embedding once, not with every image."""
    trunk = network.image_encoder.trunk
    side = network.image_size // 4
    embedding = trunk._get_pos_embed((side, side))
    trunk._get_pos_embed = lambda size: embedding
