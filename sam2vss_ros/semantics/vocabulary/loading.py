"""From the option `text_model` to a model: a folder of `transformers`, or a name on the hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from sam2vss_ros.errors import one_line
from sam2vss_ros.semantics.networks.inputs import MAX_SIDE, Input, is_side
from sam2vss_ros.semantics.networks.loading import HUB_NAME
from sam2vss_ros.semantics.networks.network import refuse_broken_weights
from sam2vss_ros.semantics.networks.pretrained import (
    input_of,
    library,
    offline,
    reason_of_library,
    refuse_code,
    refuse_random_weights,
    refuse_stand_ins,
    settings_file,
    was_fetched,
)
from sam2vss_ros.semantics.vocabulary.families import FAMILIES, Crops
from sam2vss_ros.semantics.vocabulary.text_model import TextModel

log = logging.getLogger(__name__)

PREPROCESSOR = "preprocessor_config.json"

WITHOUT_SETTINGS: Mapping[str, Input] = {
    "tipsv2": Input(mean=(0, 0, 0), std=(1, 1, 1)),
    "siglip": Input(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "siglip2": Input(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "clip": Input(
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)
    ),
}
"""How the families' own checkpoints want their images, for folders that do not say it."""

WHAT_TO_DO = (
    "it is a folder of the library transformers with a model of images and text (tipsv2, siglip, "
    "siglip2, clip, metaclip_2 and others), or the name of one on the Hugging Face hub that was "
    "fetched: sam2vss models --fetch google/tipsv2-b14"
)


def open_text_model(name_or_path: str, device: torch.device) -> TextModel:
    """The model of the option `text_model`. Nothing is looked up in the network.

    Raises FileNotFoundError where there is no such folder and it was not fetched; ValueError as
    `load_text_model`.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return load_text_model(str(path), device)
    if not path.exists() and HUB_NAME.fullmatch(name_or_path) and was_fetched(name_or_path):
        return load_text_model(name_or_path, device)
    there = "is no folder" if path.exists() else "does not exist, nor was it fetched"
    raise FileNotFoundError(f"text_model: {one_line(name_or_path)} {there}; {WHAT_TO_DO}")


def is_text_model(name: str, fetch: bool = False) -> bool:
    """Whether a folder or hub name holds a model of images and text, by its config.

    Raises ValueError as `load_text_model`, for what can be no model at all.
    """
    transformers = library(name, "text_model")
    try:
        with nullcontext() if fetch else offline():
            refuse_code(transformers, name, fetch)
            config = transformers.AutoConfig.from_pretrained(
                name, local_files_only=not fetch, trust_remote_code=False
            )
    except Exception as error:  # a damaged config makes transformers raise nearly anything
        raise ValueError(
            f"{name} cannot be read by transformers: {reason_of_library(error)}"
        ) from error
    return _speaks(transformers, config)


def load_text_model(name: str, device: torch.device, fetch: bool = False) -> TextModel:
    """Load a model of images and text by its folder or hub name, ready for inference.

    Only with `fetch` the hub is asked, for what its local cache lacks. Code that a folder brings is
    never run. Raises ValueError with the reason where there is no such model, it is damaged, of
    another kind or brings code, or `transformers` is not installed.
    """
    transformers = library(name, "text_model")
    try:
        with nullcontext() if fetch else offline():
            local = {"local_files_only": not fetch, "trust_remote_code": False}
            refuse_code(transformers, name, fetch)
            refuse_stand_ins(Path(name))
            config = transformers.AutoConfig.from_pretrained(name, **local)
            kind = _kind(transformers, config)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **local)
            prepare = _prepare(transformers, name, config, fetch)
            model, loaded = transformers.AutoModel.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **local
            )
            refuse_random_weights(model, loaded["missing_keys"])
    except Exception as error:  # a damaged folder makes transformers raise nearly anything
        raise ValueError(
            f"text_model: {name} cannot be loaded by transformers: {reason_of_library(error)}"
        ) from error
    refuse_broken_weights(name, model, "text_model")
    return kind(name, model.to(device).eval().requires_grad_(False), tokenizer, prepare, device)


def _kind(transformers: Any, config: Any) -> type[TextModel]:
    """The adapter of a config's family."""
    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    if not _speaks(transformers, config):
        raise ValueError(
            f"a {one_line(config.model_type, 60)} gives no features of images and text; these "
            f"families do: {', '.join(FAMILIES)}, and others by crops, such as align or altclip"
        )
    return Crops


def _speaks(transformers: Any, config: Any) -> bool:
    """Whether a config's model gives features of images and of texts."""
    model = transformers.MODEL_MAPPING.get(type(config), None)
    return all(hasattr(model, f"get_{what}_features") for what in ("text", "image"))


def _prepare(transformers: Any, name: str, config: Any, fetch: bool) -> Input:
    """Images of the size that the model was trained with; parts are never looked at alone."""
    files = (PREPROCESSOR, "processor_config.json")
    if any(settings_file(transformers, name, file, fetch) for file in files):
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(
            name, local_files_only=not fetch
        )
        wanted = input_of(settings | {"do_resize": False})
    else:
        family = config.model_type if config.model_type in WITHOUT_SETTINGS else "clip"
        wanted = WITHOUT_SETTINGS[family]
        log.warning("text_model %s has no %s: that of %s is taken", name, PREPROCESSOR, family)
    side = _side(config)
    return Input(size=(side, side), mean=wanted.mean, std=wanted.std, bgr=wanted.bgr)


def _side(config: Any) -> int:
    """Pixels of the side of the square images that a model was trained with."""
    vision = config.vision_config
    side = getattr(vision, "image_size", None)
    if side is None and hasattr(vision, "num_patches"):  # NaFlex takes any shape of so many patches
        side = round(vision.num_patches**0.5) * vision.patch_size
    side = side[0] if isinstance(side, list | tuple) else side
    if side is None or not is_side(side):
        raise ValueError(
            f"the image_size of its config is pixels up to {MAX_SIDE}, not {one_line(repr(side))}"
        )
    return int(side)
