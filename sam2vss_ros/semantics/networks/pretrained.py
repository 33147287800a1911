"""Segmentation models of the library `transformers`, from a folder or by their name on the hub.

Semantic models (SegFormer, DPT, BEiT, UperNet, ...) give a score to each class at each pixel.
Universal ones (MaskFormer, Mask2Former, EoMT) give masks with classes: a pixel's score of a class
is the sum over all masks of the mask's class probability times its probability at the pixel, the
rule of MaskFormer (Cheng et al., NeurIPS 2021, section 3.4).

The images' size and range are those of the folder's `preprocessor_config.json`. Parts of an image
are never looked at alone: a centre crop or a division into tiles that it asks for is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2vss_ros.errors import LONGEST_NAME, one_line
from sam2vss_ros.io.stand_ins import stand_in
from sam2vss_ros.sam2.functional import PIXEL_MEAN, PIXEL_STD
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, distinct_color
from sam2vss_ros.semantics.networks.inputs import MAX_SIDE, Input, check_range, is_side
from sam2vss_ros.semantics.networks.network import TensorNetwork, refuse_broken_weights

MAX_SETTINGS = 4 << 20
"""Bytes of a folder's JSON file: that of thousands of classes has less than one million."""


UNIVERSAL = ("maskformer", "mask2former", "eomt", "eomt_dinov3")
"""Universal models that are asked for nothing but an image, and answer with masks as these do."""

SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")


def load_pretrained(
    name: str, device: torch.device, catalog: ClassCatalog | None = None, fetch: bool = False
) -> TensorNetwork:
    """Load a model by its folder or hub name; `catalog` replaces the classes of its config.

    Only with `fetch` the hub is asked, for what its local cache lacks. Code that a folder brings is
    never run. Raises ValueError with the reason where there is no such model, it is damaged, of
    another kind or brings code, or `transformers` is not installed.
    """
    transformers = library(name)
    try:
        with nullcontext() if fetch else offline():
            local = {"local_files_only": not fetch, "trust_remote_code": False}
            refuse_code(transformers, name, fetch)
            refuse_stand_ins(Path(name))
            config = transformers.AutoConfig.from_pretrained(name, **local)
            kind, score = _kind(transformers, config)
            settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name, **local)
            if config.model_type.startswith("eomt"):
                settings["size"] = config.image_size  # its transformer takes no other
            prepare = input_of(settings)
            catalog = catalog or _catalog(name, config.id2label)
            # Its own weights hold the backbone's, which are not to be looked for elsewhere.
            _without_pretrained_backbone(config)
            model, loaded = kind.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **local
            )
            refuse_random_weights(model, loaded["missing_keys"])
    except Exception as error:  # a damaged folder makes transformers raise nearly anything
        raise ValueError(
            f"network: {name} cannot be loaded by transformers: {reason_of_library(error)}"
        ) from error
    refuse_broken_weights(name, model)
    model = model.to(device).eval().requires_grad_(False)
    return TensorNetwork(
        name, catalog, prepare, lambda pixels: score(model(pixel_values=pixels)), device
    )


def was_fetched(name: str) -> bool:
    """Whether the local cache of the hub has a model of this name."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(name, "config.json"), str)


@contextmanager
def offline() -> Iterator[None]:
    """Nothing in here asks the Hugging Face hub, as with HF_HUB_OFFLINE=1 from the start."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def library(name: str, option: str = "network") -> Any:
    """The library. Raises ValueError, for `option` and what it names, where it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f'{option}: {name} needs transformers: pip install "transformers>=5"'
        ) from error
    return transformers


def settings_file(transformers: Any, name: str, file: str, fetch: bool) -> str | None:
    """The path of a JSON file of a model; None where it has no such file."""
    path: str | None = transformers.utils.cached_file(
        name,
        file,
        local_files_only=not fetch,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return path


def refuse_code(transformers: Any, name: str, fetch: bool) -> None:
    """Raise ValueError where settings of a model name Python code to run."""
    for file in SETTINGS:
        path = settings_file(transformers, name, file, fetch)
        if path is None:
            continue
        with open(path, "rb") as opened:
            content = opened.read(MAX_SETTINGS + 1)
        if len(content) > MAX_SETTINGS:
            raise ValueError(f"its {file} is larger than {MAX_SETTINGS >> 20} MB")
        # It may stand at any depth, as in the entry of a backbone.
        json.loads(content, object_hook=partial(_without_code, file))


def _without_code(file: str, entry: dict[str, Any]) -> dict[str, Any]:
    if "auto_map" in entry:
        raise ValueError(
            f"its {file} has auto_map: it brings Python code of its own, which is never run; "
            "without that entry transformers' own class of its model_type is taken"
        )
    return entry


def refuse_stand_ins(folder: Path) -> None:
    """Raise ValueError for weights that a folder, cloned without git-lfs say, only points to."""
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        instead = stand_in(file)
        if instead:
            raise ValueError(f"its {file.name} has no weights, {instead}")


def _kind(transformers: Any, config: Any) -> tuple[Any, Callable[[Any], Tensor]]:
    """What loads a config's model, and what makes log probabilities of its output."""
    if type(config) in transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
        return transformers.AutoModelForSemanticSegmentation, _of_logits
    if config.model_type in UNIVERSAL:
        return transformers.AutoModelForUniversalSegmentation, _of_masks
    if type(config) in transformers.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING:
        raise ValueError(
            f"a {config.model_type} is not supported: of universal models {', '.join(UNIVERSAL)} "
            "are, which are asked for nothing but an image, and any semantic segmentation model"
        )
    raise ValueError(f"a {one_line(config.model_type, 60)} is no segmentation model")


def refuse_random_weights(model: nn.Module, missing: Iterable[str]) -> None:
    """Raise ValueError where weights are not in the file: transformers draws them at random."""
    # An auxiliary head is for training alone.
    needed = {name for name, _ in model.named_parameters() if not name.startswith("auxiliary_")}
    random = sorted(needed.intersection(missing))
    if random:
        raise ValueError(
            f"its weights lack {len(random)} of those of the network, such as "
            f"{one_line(random[0], 100)}: is it a backbone alone?"
        )


def _without_pretrained_backbone(config: Any) -> None:
    """Tell a config that its backbone has no weights of its own, elsewhere."""
    for part in (config, getattr(config, "backbone_config", None)):
        if part is not None and getattr(part, "use_pretrained_backbone", False):
            part.use_pretrained_backbone = False


def reason_of_library(error: BaseException) -> str:
    """What went wrong, in one line; transformers hides why an import failed behind other errors."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if "torchvision" in str(root):  # transformers imports it where there is one, for nothing here
        return (
            f"{one_line(root)}: this torchvision does not fit this torch, install one that does or "
            "none"
        )
    return one_line(error) or type(error).__name__


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
        label = one_line(id2label[index], LONGEST_NAME)
        classes.append(SemanticClass(index, label, distinct_color(index), False))
    return ClassCatalog(name, tuple(classes))


def input_of(settings: dict[str, Any]) -> Input:
    """What a `preprocessor_config.json` asks for. Raises ValueError for a size it cannot read."""
    normal = settings.get("do_normalize", True)
    mean = settings.get("image_mean", PIXEL_MEAN) if normal else (0, 0, 0)
    std = settings.get("image_std", PIXEL_STD) if normal else (1, 1, 1)
    file = "its preprocessor_config.json"
    check_range("image_mean", mean, file)
    check_range("image_std", std, file)
    # Theirs are of pixels from 0 to `top`, ours of pixels from 0 to 1.
    top = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255
    common = Input(
        multiple=settings.get("size_divisor") or settings.get("ensure_multiple_of") or 1,
        mean=[v / top for v in mean],
        std=[v / top for v in std],
        bgr=settings.get("do_flip_channel_order", False),
    )
    check_range("rescale_factor, image_std", common.std, file)
    size = settings.get("size")
    longest = settings.get("max_size") or 0
    if isinstance(size, int):  # as files had it before 2023
        size = {"shortest_edge": size} if longest else {"height": size, "width": size}
    if not settings.get("do_resize", True):
        made = common
    elif isinstance(size, dict) and "height" in size and "width" in size:
        made = replace(common, size=(size["height"], size["width"]))
    elif isinstance(size, dict) and "shortest_edge" in size:
        longest = size.get("longest_edge") or longest
        made = replace(common, shortest=size["shortest_edge"], longest=longest)
    else:
        raise ValueError(
            f"{file} has no height and width, nor a shortest edge: {one_line(repr(size))}"
        )
    sides = (*(made.size or (1,)), made.shortest or 1, made.longest or 1, made.multiple)
    if not all(is_side(side) for side in sides):
        raise ValueError(f"{file} asks for sides that are no pixels up to {MAX_SIDE}")
    return made
