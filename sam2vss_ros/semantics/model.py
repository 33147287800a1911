"""The semantics file: a class catalog, the dense head and the mask classifier, in safetensors.

Both read the features of the embedded trunk (`affinity.trunk`). Where that is what follows objects,
its features are shared; beside a SAM 2 the semantics run it themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2vss_ros.affinity.model import read_trunk
from sam2vss_ros.affinity.trunk import TAPS
from sam2vss_ros.errors import one_line
from sam2vss_ros.io.stand_ins import stand_in
from sam2vss_ros.packing import folded, pack
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.semantics.catalog import ClassCatalog, catalog_data, parse_catalog
from sam2vss_ros.semantics.classifier import MaskClassifier
from sam2vss_ros.semantics.familiarity import World
from sam2vss_ros.semantics.segmenter import DenseHead
from sam2vss_ros.semantics.weights_file import load_weights, refusing, save_weights

EMBEDDED = Path(__file__).resolve().parents[1] / "weights" / "street.safetensors"

IMAGE_SIZE = 512
"""Pixels of the longer side of the images that the semantics are made for."""

MAX_IMAGE_SIZE = 8192


@dataclass(frozen=True)
class SemanticModel:
    """What a semantics file holds.

    catalog: what it knows. image_size: pixels of the longer side of its images. world: scenes like
    those that it was trained on.
    """

    catalog: ClassCatalog
    image_size: int
    head: DenseHead
    classifier: MaskClassifier
    world: World


def new_semantics(catalog: ClassCatalog, image_size: int = IMAGE_SIZE) -> SemanticModel:
    """Untrained semantics."""
    head = DenseHead(len(catalog))
    classifier = MaskClassifier(head.classify.in_channels, len(catalog))
    return SemanticModel(catalog, image_size, head, classifier, World())


def save_semantics(model: SemanticModel, path: Path, card: dict[str, Any]) -> None:
    """Write the file in half precision; `card` tells how it was trained."""
    modules = {"head": model.head, "classifier": model.classifier, "world": model.world}
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    about = {
        "catalog": catalog_data(model.catalog),
        "image_size": model.image_size,
        "card": card,
    }
    save_weights(path, tensors, about)


def load_semantics(
    name_or_path: str, device: torch.device, dtype: torch.dtype = torch.float32
) -> SemanticModel:
    """Load `street` (embedded) or a file, ready for inference on `device`, the head in `dtype`.

    Raises FileNotFoundError naming the file and how to make one; ValueError for a file that is
    none of ours or is damaged.
    """
    model = read_semantics(name_or_path)
    head = folded(model.head).to(device, dtype)
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pack(head)
    classifier = model.classifier.to(device).eval().requires_grad_(False)
    world = model.world.to(device).eval().requires_grad_(False)
    world.eyes.to(memory_format=torch.channels_last).half()  # type: ignore[call-overload]
    return replace(model, head=head, classifier=classifier, world=world)


def read_semantics(name_or_path: str) -> SemanticModel:
    """The semantics as they were trained. Raises what `load_semantics` raises."""
    path = EMBEDDED if name_or_path == "street" else Path(name_or_path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"semantics: {one_line(path)} does not exist; 'sam2vss train semantics' makes such "
            "a file, and 'street' is the embedded one"
        )
    with refusing(f"semantics: {path} is not a semantics file"):
        instead = stand_in(path)
        if instead:
            raise ValueError(instead)
        tensors, about = load_weights(path)
        if not isinstance(about, dict) or not {"catalog", "image_size"} <= about.keys():
            raise ValueError("it does not say its catalog and image_size")
        size = about["image_size"]
        if type(size) is not int or not 32 <= size <= MAX_IMAGE_SIZE:
            raise ValueError(
                f"its image_size is pixels from 32 to {MAX_IMAGE_SIZE}, not {one_line(repr(size))}"
            )
        if "world.usual" in tensors:
            raise ValueError("an earlier version wrote it; 'sam2vss train semantics' makes another")
        if any(name.startswith("head.deep.") for name in tensors):
            tensors = _with_own_stages(tensors)
        model = new_semantics(parse_catalog(about["catalog"], "its catalog"), size)
        for name in ("head", "classifier", "world"):
            own = {
                k.removeprefix(f"{name}."): v
                for k, v in tensors.items()
                if k.startswith(f"{name}.")
            }
            getattr(model, name).load_state_dict(own)
    return model


def _with_own_stages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a file from when the head had the trunk's stages of strides 8 and 16: now its own."""
    trunk = read_trunk(model_card("mobile")).blocks
    finest, middle, coarsest = (tap + 1 for tap in TAPS)
    own = nn.ModuleList([trunk[finest:middle], trunk[middle:coarsest]]).state_dict()
    renamed = {name.replace("head.deep.", "head.stages.2."): t for name, t in tensors.items()}
    return renamed | {f"head.stages.{name}": t for name, t in own.items()}
