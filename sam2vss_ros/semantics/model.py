"""The semantics file: a class catalog, the dense head and the mask classifier, in safetensors.

Its metadata says which SAM 2's features the two were trained on. Where that is the tracking model
the features are shared; otherwise the semantics run their own (small) image encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sam2vss_ros.semantics.catalog import ClassCatalog, catalog_data, parse_catalog
from sam2vss_ros.semantics.classifier import MaskClassifier
from sam2vss_ros.semantics.segmenter import DenseHead
from sam2vss_ros.semantics.weights_file import load_weights, refusing, save_weights

EMBEDDED = Path(__file__).resolve().parents[1] / "weights" / "nano_semantics.safetensors"


@dataclass(frozen=True)
class SemanticModel:
    """catalog: what it knows; backbone, image_size: the SAM 2 whose features it reads."""

    catalog: ClassCatalog
    backbone: str
    image_size: int
    head: DenseHead
    classifier: MaskClassifier


def new_semantics(
    catalog: ClassCatalog, backbone: str, image_size: int, channels: int, width: int = 48
) -> SemanticModel:
    """Untrained semantics for features of `channels` channels."""
    classes = len(catalog)
    return SemanticModel(
        catalog,
        backbone,
        image_size,
        DenseHead(channels, classes, width),
        MaskClassifier(width, classes),
    )


def save_semantics(model: SemanticModel, path: Path, card: dict[str, Any]) -> None:
    """Write the file in half precision; `card` tells how it was trained."""
    modules = {"head": model.head, "classifier": model.classifier}
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    about = {
        "catalog": catalog_data(model.catalog),
        "backbone": model.backbone,
        "image_size": model.image_size,
        "channels": model.head.fine[0].in_channels,
        "width": model.head.classify.in_channels,
        "card": card,
    }
    save_weights(path, tensors, about)


def load_semantics(name_or_path: str, device: torch.device) -> SemanticModel:
    """Load `nano` (embedded) or a file, ready for inference on `device`.

    Raises FileNotFoundError naming the file and how to make one; ValueError for a file that is
    none of ours or is damaged.
    """
    path = EMBEDDED if name_or_path == "nano" else Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(
            f"semantics: {path} does not exist; 'sam2vss train semantics' makes such a file, and "
            "'nano' is the embedded one"
        )
    with refusing(f"semantics: {path} is not a semantics file"):
        tensors, about = load_weights(path)
        catalog = parse_catalog(about["catalog"], str(path))
        model = new_semantics(
            catalog, about["backbone"], about["image_size"], about["channels"], about["width"]
        )
        for name, module in (("head", model.head), ("classifier", model.classifier)):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(name)}
            module.load_state_dict(own)
            module.to(device).eval().requires_grad_(False)
    return model
