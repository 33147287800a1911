"""Find model weights on this machine.

Meta's weights are looked for in this order, and the first ones found are used:

1. the path given by the user (`checkpoint`); if one is given, nothing else is tried;
2. a file with Meta's name, such as `sam2.1_hiera_tiny.pt`, in $SAM2VSS_CHECKPOINTS, then in
   `~/.cache/sam2vss_ros`, where `fetching` puts it, then in `./checkpoints`;
3. the local cache of the Hugging Face hub.

Those of a model's YAML file lie beside it under its name, `.safetensors` or `.pt`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sam2vss_ros.errors import ModelUnavailableError, one_line
from sam2vss_ros.sam2.cards import CARDS, ModelCard

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
    """All models this package knows by name, and whether their weights are on this machine."""
    return tuple(model_status(card) for card in CARDS.values())


def model_status(card: ModelCard) -> ModelStatus:
    """Where a model's weights are."""
    return ModelStatus(card, find_weights(card), _fetch_command(card) if card.hub_id else "")


def find_weights(card: ModelCard, checkpoint: str = "") -> Path | None:
    """The path of a model's weights on this machine, or None.

    Raises ModelUnavailableError if `checkpoint` is given and is not a file; models of Meta may also
    lie in a folder, see `transformers_folder`.
    """
    if checkpoint:
        path = Path(checkpoint).expanduser()
        if not (path.is_file() or (card.file and path.is_dir())):
            raise ModelUnavailableError(_advice(card, f"checkpoint {one_line(path)} is not a file"))
        return path
    if card.model_file is not None:
        return next((path for path in _beside(card.model_file) if path.is_file()), None)
    if not card.file:
        path = EMBEDDED_FOLDER / f"{card.name}.safetensors"
        return path if path.is_file() else None
    for folder in weight_folders():
        if (folder / card.file).is_file():
            return folder / card.file
    return _cached_from_hub(card)


def _beside(model_file: Path) -> tuple[Path, Path]:
    """Where the weights of a model's YAML file may be."""
    return model_file.with_suffix(".safetensors"), model_file.with_suffix(".pt")


def weight_folders() -> tuple[Path, ...]:
    """The folders searched for Meta's files, in order."""
    named = os.environ.get("SAM2VSS_CHECKPOINTS")
    usual = (fetched_folder(), Path("checkpoints").absolute())
    return (Path(named).expanduser(), *usual) if named else usual


def fetched_folder() -> Path:
    """Where `sam2vss models --fetch` puts weights."""
    return Path.home() / ".cache" / "sam2vss_ros"


def _cached_from_hub(card: ModelCard) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(card.hub_id, card.file)
    return Path(found) if isinstance(found, str) else None


def existing_weights(card: ModelCard, checkpoint: str = "") -> Path:
    """The path of a model's weights on this machine; nothing is looked up in the network.

    Raises ModelUnavailableError saying where they were looked for, and how to get them.
    """
    path = find_weights(card, checkpoint)
    if path is not None:
        return path
    if card.model_file is not None:
        names = " and no ".join(str(path) for path in _beside(card.model_file))
        raise ModelUnavailableError(
            f"model {card.name}: there is no {names}: put its weights there, or name them by the "
            "option checkpoint"
        )
    if not card.hub_id:
        raise ModelUnavailableError(
            f"model {card.name}: its weights belong to this package, but are missing in "
            f"{EMBEDDED_FOLDER}: install sam2vss_ros again"
        )
    raise ModelUnavailableError(_advice(card, "its weights are not on this machine"))


def _advice(card: ModelCard, reason: str) -> str:
    """The error message for missing weights: what was looked for, where, and what to do."""
    if card.model_file is not None:
        return f"model {card.name}: {reason}"
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
