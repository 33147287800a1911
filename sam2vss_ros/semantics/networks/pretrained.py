"""Segmentation models of the library `transformers`, from a folder or by their name on the hub.

Semantic models (SegFormer, DPT, BEiT, UperNet, ...) give a score to each class at each pixel.
Universal ones (MaskFormer, Mask2Former, EoMT) give masks with classes: a pixel's score of a class
is the sum over all masks of the mask's class probability times its probability at the pixel, the
rule of MaskFormer (Cheng et al., NeurIPS 2021, section 3.4).

The images' size and range are those of the folder's `preprocessor_config.json`. Parts of an image
are never looked at alone: a centre crop or a division into tiles that it asks for is left out.
"""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sam2vss_ros.sam2.functional import PIXEL_MEAN, PIXEL_STD
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass
from sam2vss_ros.semantics.networks.inputs import Input
from sam2vss_ros.semantics.networks.network import TensorNetwork

GOLDEN = (5**0.5 - 1) / 2


def load_pretrained(
    name: str, device: torch.device, catalog: ClassCatalog | None = None
) -> TensorNetwork:
    """Load a model by its folder or hub name; `catalog` replaces the classes of its config.

    Raises ValueError with the reason where there is no such model, it is damaged or of another
    kind, or `transformers` is not installed.
    """
    transformers = _transformers(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if type(config) in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
            kind, score = transformers.AutoModelForSemanticSegmentation, _of_logits
        elif type(config) in transformers.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING:
            kind, score = transformers.AutoModelForUniversalSegmentation, _of_masks
        else:
            raise ValueError(f"a {config.model_type} is no segmentation model")
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
        if config.model_type.startswith("eomt"):
            settings["size"] = config.image_size  # its transformer takes no other
        prepare = _input(settings)
        catalog = catalog or _catalog(name, config.id2label)
        model = kind.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = _reason(error)
        raise ValueError(f"network: {name} cannot be loaded by transformers: {reason}") from error
    model = model.to(device).eval().requires_grad_(False)
    return TensorNetwork(
        name, catalog, prepare, lambda pixels: score(model(pixel_values=pixels)), device
    )


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f'network: {name} needs transformers: pip install "transformers>=5"'
        ) from error
    return transformers


def _reason(error: BaseException) -> str:
    """What went wrong, in one line; transformers hides why an import failed behind other errors."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if "torchvision" in str(root):  # transformers imports it where there is one, for nothing here
        return f"{root}: this torchvision does not fit this torch, install one that does or none"
    return " ".join(str(error).split())


def _of_logits(output: Any) -> Tensor:
    return output.logits.float().log_softmax(1)


def _of_masks(output: Any) -> Tensor:
    # The last class of a mask is "nothing".
    classes = output.class_queries_logits.float().softmax(-1)[..., :-1]
    masks = output.masks_queries_logits.float().sigmoid()
    scores = torch.einsum("bqc,bqhw->bchw", classes, masks)
    return scores.clamp(min=1e-6).log().log_softmax(1)


def _catalog(name: str, id2label: dict[int, str]) -> ClassCatalog:
    """The classes of a model's config, in colours far apart; none is taken to be countable."""
    classes = []
    for index in sorted(id2label):
        rgb = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.55 + 0.4 * (index % 2), 0.9)
        red, green, blue = (round(255 * v) for v in rgb)
        classes.append(SemanticClass(index, id2label[index], (red, green, blue), False))
    return ClassCatalog(name, tuple(classes))


def _input(settings: dict[str, Any]) -> Input:
    """What a `preprocessor_config.json` asks for. Raises ValueError for a size it cannot read."""
    normal = settings.get("do_normalize", True)
    mean = settings.get("image_mean", PIXEL_MEAN) if normal else (0, 0, 0)
    std = settings.get("image_std", PIXEL_STD) if normal else (1, 1, 1)
    # Theirs are of pixels from 0 to `top`, ours of pixels from 0 to 1.
    top = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
    common = Input(
        multiple=settings.get("size_divisor") or settings.get("ensure_multiple_of") or 1,
        mean=[v / top for v in mean],
        std=[v / top for v in std],
        bgr=settings.get("do_flip_channel_order", False),
    )
    if not settings.get("do_resize", True):
        return common
    size = settings.get("size")
    longest = settings.get("max_size") or 0
    if isinstance(size, int):  # as files had it before 2023
        size = {"shortest_edge": size} if longest else {"height": size, "width": size}
    if isinstance(size, dict) and "height" in size:
        return replace(common, size=(size["height"], size["width"]))
    if isinstance(size, dict) and "shortest_edge" in size:
        longest = size.get("longest_edge") or longest
        return replace(common, shortest=size["shortest_edge"], longest=longest)
    raise ValueError(
        f"its preprocessor_config.json has no height and width, nor a shortest edge: {size}"
    )
