"""Model name -> weights -> `SAM2Base`: the embedded nano and Meta's SAM 2.1 models.

Meta's weights are looked for in this order; the first place that has them wins:

1. the path the user gives (`checkpoint`), and then nowhere else;
2. a file with Meta's name, such as `sam2.1_hiera_tiny.pt`, in $SAM2VSS_CHECKPOINTS, then in
   `~/.cache/sam2vss_ros`, then in `./checkpoints`;
3. the Hugging Face hub's local cache, then the hub itself, where `huggingface_hub` is installed.
"""

from __future__ import annotations

import logging
import os
import pickle
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base

from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.sam2.norms import use_channel_norms

log = logging.getLogger(__name__)

SIZE_STEP = 32
"""Hiera tiles its window position embedding (8 x 8) over a stride-4 grid: sides are 32 n."""

EMBEDDED_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "nano.safetensors"

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before it is loaded.

    `image_size` is the side of its square input in pixels, `discovery` the source of new objects
    that suits it (regions or grid), `parameters` their count. `understands_points` says whether
    points and boxes find masks; where not, the dense region they lie on is taken. `cpu_threads`
    is how many threads serve it best on a CPU, 0 for all; `max_objects` and `engine` (a preset of
    `engine.PRESETS`) are the options of that name unless the user says. `config` (a YAML of the
    `sam2` package), `file` and `hub_id` are empty for the embedded model.
    """

    name: str
    image_size: int
    discovery: str
    understands_points: bool
    cpu_threads: int
    max_objects: int
    engine: str
    parameters: int
    source: str
    licence: str
    config: str = ""
    file: str = ""
    hub_id: str = ""


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


@dataclass(frozen=True)
class ModelStatus:
    """A known model, where its weights are (None: not on this machine), and how to get them.

    `fetch` is a shell command, empty for the embedded model.
    """

    card: ModelCard
    path: Path | None
    fetch: str


def _meta_card(size: str, config: str, parameters: int) -> ModelCard:
    return ModelCard(
        name=f"sam2.1_hiera_{size}",
        image_size=1024,
        discovery="grid",
        understands_points=True,
        cpu_threads=0,
        max_objects=32,
        engine="exact",
        parameters=parameters,
        source="Meta AI, SAM 2.1 (September 2024)",
        licence="Apache-2.0",
        config=f"configs/sam2.1/sam2.1_hiera_{config}.yaml",
        file=f"sam2.1_hiera_{size}.pt",
        hub_id=f"facebook/sam2.1-hiera-{size.replace('_', '-')}",
    )


CARDS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            name="nano",
            image_size=256,
            discovery="regions",
            understands_points=False,
            cpu_threads=1,
            max_objects=6,
            engine="fast",
            parameters=1_231_922,
            source="this package, see sam2vss_ros/weights",
            licence="see the model card in sam2vss_ros/weights",
        ),
        _meta_card("tiny", "t", 38_962_498),
        _meta_card("small", "s", 46_060_354),
        _meta_card("base_plus", "b+", 80_850_178),
        _meta_card("large", "l", 224_446_642),
    )
}


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


def model_card(name: str) -> ModelCard:
    """The card of a known model. Raises ValueError naming the known ones."""
    if name not in CARDS:
        raise ValueError(f"model: {name!r} is not one of {', '.join(CARDS)}")
    return CARDS[name]


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


def known_models() -> tuple[ModelStatus, ...]:
    """Every model this package can load, and whether its weights are on this machine."""
    return tuple(
        ModelStatus(card, find_weights(card), _fetch_command(card) if card.hub_id else "")
        for card in CARDS.values()
    )


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


def find_weights(card: ModelCard, checkpoint: str = "") -> Path | None:
    """The weights of a model on this machine, or None.

    Raises ModelUnavailableError if `checkpoint` is given and is not a file.
    """
    if checkpoint:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise ModelUnavailableError(_advice(card, f"checkpoint {path} is not a file"))
        return path
    if not card.file:
        return EMBEDDED_WEIGHTS if EMBEDDED_WEIGHTS.is_file() else None
    for folder in weight_folders():
        if (folder / card.file).is_file():
            return folder / card.file
    return _cached_from_hub(card)


def weight_folders() -> tuple[Path, ...]:
    """Where Meta's files are looked for, in this order."""
    named = os.environ.get("SAM2VSS_CHECKPOINTS")
    usual = (Path.home() / ".cache" / "sam2vss_ros", Path("checkpoints").absolute())
    return (Path(named).expanduser(), *usual) if named else usual


def fetch_weights(card: ModelCard) -> Path:
    """Bring a model's weights from the Hugging Face hub into the hub's local cache.

    Raises ModelUnavailableError saying why it did not work and what else does.
    """
    if not card.hub_id:
        raise ModelUnavailableError(
            f"model {card.name}: its weights belong to this package, but {EMBEDDED_WEIGHTS} is "
            "missing: install sam2vss_ros again"
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelUnavailableError(
            _advice(card, "the package huggingface_hub, which fetches weights, is not installed")
        ) from error
    url = huggingface_hub.hf_hub_url(card.hub_id, card.file)
    try:
        _reach(url)
        log.info("fetching %s", url)
        return Path(huggingface_hub.hf_hub_download(card.hub_id, card.file))
    # The hub's errors share no base class; those of the network and the disk are OSErrors.
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelUnavailableError(
            _advice(card, f"it could not be fetched from {url} ({reason})")
        ) from error


def _reach(url: str, seconds: float = 5.0) -> None:
    """Raise OSError at once where there is no network; the hub's client tries for half a minute."""
    urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()


def _cached_from_hub(card: ModelCard) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(card.hub_id, card.file)
    return Path(found) if isinstance(found, str) else None


def _fetch_command(card: ModelCard) -> str:
    return f"sam2vss models --fetch {card.name}"


def _advice(card: ModelCard, reason: str) -> str:
    """Message for weights that are not at hand: what was looked for, where, and the ways on."""
    if not card.file:
        return f"model {card.name}: {reason}; without a checkpoint its own weights are used"
    looked = ", ".join(str(folder) for folder in weight_folders())
    return (
        f"model {card.name}: {reason}. Looked for {card.file} in {looked} and the Hugging Face "
        f"cache. On a machine with a network, fetch it with `{_fetch_command(card)}`, "
        "or put the file into one of these folders; or go on with the embedded model: nano"
    )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a `.safetensors` file or a checkpoint in Meta's format.

    Only tensors are unpickled, never code. Raises ModelUnavailableError for anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError,
            SafetensorError) as error:  # fmt: skip
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelUnavailableError(
            f"checkpoint {path} cannot be read, it is truncated or no checkpoint: {reason}"
        ) from error
    weights = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise ModelUnavailableError(
            f"checkpoint {path} is not in Meta's format: it has no `model` with tensors by name"
        )
    return dict(weights)


def load_weights(
    network: SAM2Base, weights: Mapping[str, torch.Tensor], path: Path, name: str
) -> None:
    """Copy `weights` into the network, upcast to its float32.

    Raises ModelUnavailableError naming the first keys or shapes that do not match.
    """
    own = network.state_dict()
    problems = [
        _first("missing", own.keys() - weights.keys()),
        _first("unexpected", weights.keys() - own.keys()),
        _first(
            "of another shape",
            (
                f"{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
                for key in own.keys() & weights.keys()
                if weights[key].shape != own[key].shape
            ),
        ),
    ]
    if any(problems):
        raise ModelUnavailableError(
            f"checkpoint {path} is not of model {name}: {'; '.join(p for p in problems if p)}"
        )
    network.load_state_dict(dict(weights))


def _first(problem: str, keys: Iterable[str], shown: int = 3) -> str:
    found = sorted(keys)
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return f"{len(found)} {problem}: {', '.join(found[:shown])}{more}" if found else ""
