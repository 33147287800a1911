"""Read models as transformers saves them: a folder with config.json and model.safetensors.

Only the files are read; transformers need not be installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sam2vss_ros.errors import ModelUnavailableError, brief, reason_of
from sam2vss_ros.sam2.cards import ModelCard
from sam2vss_ros.sam2.checkpoint import read_weights
from sam2vss_ros.sam2.edgetam.network import EdgeTamSettings
from sam2vss_ros.sam2.transformers_names import from_transformers

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

BUILT: dict[str, Any] = {
    "num_maskmem": 7,
    "max_object_pointers_in_encoder": 16,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "memory_attention_num_attention_heads": 1,
    "memory_attention_rope_k_sizes": [16, 16],
    "perceiver_resampler_num_attention_heads": 1,
    "mask_decoder_config.num_attention_heads": 8,
    "rope_parameters.rope_theta": 10000.0,
}
"""Settings that no tensor's shape tells, as Meta has them; the networks are built for no others."""


@dataclass(frozen=True)
class FolderConfig:
    """What config.json says. image_size: side in pixels. edgetam: None for a SAM 2."""

    image_size: int
    edgetam: EdgeTamSettings | None


def read_config(folder: Path, card: ModelCard) -> FolderConfig:
    """Raises ModelUnavailableError where the folder is not one of the card's model."""
    config = _json(folder)
    wanted = "edgetam_video" if card.edgetam else "sam2_video"
    kind = config.get("model_type")
    if kind != wanted:
        raise _refusal(
            folder, f"its model_type is {brief(repr(kind))}; model {card.name} takes {wanted}"
        )
    for name, value in BUILT.items():
        has = _inside(config, name, value)
        if has != value:
            raise _refusal(folder, f"{name} is {brief(repr(has))}; only {value} is built")
    size = _side(folder, config, "image_size", 1024)
    if not card.edgetam:
        return FolderConfig(size, None)
    trunk = str(_inside(config, "vision_config.backbone_config.architecture", ""))
    if trunk.partition(".")[0] != "repvit_m1":
        raise _refusal(folder, f"its trunk is {brief(repr(trunk))}; only timm's repvit_m1 is built")
    native = 16 * _side(folder, config, "memory_attention_rope_feat_sizes", 64)
    times = bool(config.get("enable_temporal_pos_encoding_for_object_pointers", True))
    absence = bool(config.get("enable_occlusion_spatial_embedding", True))
    return FolderConfig(size, EdgeTamSettings(native, times, absence))


def read_folder_weights(folder: Path, keys: Iterable[str], card: ModelCard) -> dict[str, Tensor]:
    """The tensors under Meta's names; those that belong to none of `keys` keep their own.

    Raises ModelUnavailableError where they are not there or cannot be read.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise _refusal(
            folder, f"it has no {WEIGHTS}: save the model with save_pretrained, in one piece"
        )
    weights = read_weights(path)
    try:
        return from_transformers(weights, keys, card.edgetam)
    except ValueError as error:
        raise _refusal(folder, str(error)) from error


def _json(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _refusal(
            folder, f"it has no {CONFIG}, which transformers' save_pretrained puts beside {WEIGHTS}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(folder, f"{CONFIG} cannot be read: {reason_of(error)}") from error
    if not isinstance(config, dict):
        raise _refusal(folder, f"{CONFIG} holds no mapping")
    return config


def _inside(config: Mapping[str, Any], name: str, default: Any) -> Any:
    """A value by the names of the mappings that it is in, joined by dots."""
    node: Any = config
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return default if node is None else node


def _side(folder: Path, config: Mapping[str, Any], name: str, default: int) -> int:
    """A length, or the side of a square that is given by two."""
    value = config.get(name, default)
    sides = value if isinstance(value, list) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(set(sides)) != 1 or not 1 <= sides[0] <= 4096:
        raise _refusal(folder, f"{name} is {brief(repr(value))}, not the side of a square")
    return int(sides[0])


def _refusal(folder: Path, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(f"checkpoint {folder} is no folder of this model: {reason}")
