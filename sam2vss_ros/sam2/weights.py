"""Find, fetch, read and load model weights.

Meta's weights are looked for in this order, and the first ones found are used:

1. the path given by the user (`checkpoint`); if one is given, nothing else is tried;
2. a file with Meta's name, such as `sam2.1_hiera_tiny.pt`, in $SAM2VSS_CHECKPOINTS, then in
   `~/.cache/sam2vss_ros`, then in `./checkpoints`;
3. the local cache of the Hugging Face hub, then the hub itself, if `huggingface_hub` is installed.
"""

from __future__ import annotations

import logging
import os
import pickle
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.cards import CARDS, ModelCard

log = logging.getLogger(__name__)

EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class ModelStatus:
    """A model, where its weights are (None: not on this machine), and how to get them.

    `fetch` is a shell command; empty for the embedded model.
    """

    card: ModelCard
    path: Path | None
    fetch: str


def known_models() -> tuple[ModelStatus, ...]:
    """All models this package can load, and whether their weights are on this machine."""
    return tuple(
        ModelStatus(card, find_weights(card), _fetch_command(card) if card.hub_id else "")
        for card in CARDS.values()
    )


def find_weights(card: ModelCard, checkpoint: str = "") -> Path | None:
    """The path of a model's weights on this machine, or None.

    Raises ModelUnavailableError if `checkpoint` is given and is not a file.
    """
    if checkpoint:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise ModelUnavailableError(_advice(card, f"checkpoint {path} is not a file"))
        return path
    if not card.file:
        path = EMBEDDED_FOLDER / f"{card.name}.safetensors"
        return path if path.is_file() else None
    for folder in weight_folders():
        if (folder / card.file).is_file():
            return folder / card.file
    return _cached_from_hub(card)


def weight_folders() -> tuple[Path, ...]:
    """The folders searched for Meta's files, in order."""
    named = os.environ.get("SAM2VSS_CHECKPOINTS")
    usual = (Path.home() / ".cache" / "sam2vss_ros", Path("checkpoints").absolute())
    return (Path(named).expanduser(), *usual) if named else usual


def _cached_from_hub(card: ModelCard) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(card.hub_id, card.file)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(card: ModelCard) -> Path:
    """Download a model's weights from the Hugging Face hub into its local cache; returns the path.

    Raises ModelUnavailableError saying why this failed and what to do instead.
    """
    if not card.hub_id:
        raise ModelUnavailableError(
            f"model {card.name}: its weights belong to this package, but are missing in "
            f"{EMBEDDED_FOLDER}: install sam2vss_ros again"
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
    # Network and disk errors are OSErrors; the hub's own errors have no common base class.
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelUnavailableError(
            _advice(card, f"it could not be fetched from {url} ({reason})")
        ) from error


def _reach(url: str, seconds: float = 5.0) -> None:
    """Raise OSError at once if there is no network; the hub's client retries for half a minute."""
    urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()


def _advice(card: ModelCard, reason: str) -> str:
    """The error message for missing weights: what was looked for, where, and what to do."""
    if not card.file:
        return f"model {card.name}: {reason}; without a checkpoint its own weights are used"
    looked = ", ".join(str(folder) for folder in weight_folders())
    return (
        f"model {card.name}: {reason}. Looked for {card.file} in {looked} and the Hugging Face "
        f"cache. On a machine with a network, fetch it with `{_fetch_command(card)}`, "
        "or put the file into one of these folders; or go on with the embedded model: mobile"
    )


def _fetch_command(card: ModelCard) -> str:
    return f"sam2vss models --fetch {card.name}"


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name from a `.safetensors` file or a checkpoint in Meta's format.

    Only tensors are unpickled, never code. Raises ModelUnavailableError for any other file.
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
    network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path, name: str
) -> None:
    """Copy `weights` into the network, converted to its float32.

    Raises ModelUnavailableError naming the first keys and shapes that do not match.
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
