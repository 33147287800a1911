"""From the option `network` to a network."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.embedded import WEIGHTS, load_embedded
from sam2vss_ros.semantics.networks.files import ONNX, TORCHSCRIPT, load_file
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.semantics.networks.pretrained import load_pretrained

OWN = ".safetensors"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load_network(name_or_path: str, device: torch.device, classes: str = "") -> SegmentationNetwork:
    """Load a network that looks at images, ready for inference on `device`.

    name_or_path: `street` (embedded) or a file that `sam2vss train network` made, a TorchScript or
    ONNX file, a folder of the library transformers, or a model's name on the Hugging Face hub
    (downloaded once). classes: class file (a path, or the name of a shipped one) that replaces the
    network's own.
    Raises FileNotFoundError or ValueError, naming the option `network`, for what cannot be used.
    """
    path = Path(name_or_path).expanduser()
    if name_or_path == "street" or path.suffix == OWN:
        if classes:
            raise ValueError(f"network_classes: {name_or_path} has its classes in its own file")
        return load_embedded(WEIGHTS if name_or_path == "street" else path, device)
    if path.suffix in (*TORCHSCRIPT, *ONNX):
        return load_file(path, device, classes)
    if path.is_dir() or HUB_NAME.fullmatch(name_or_path):
        catalog = load_catalog(classes) if classes else None
        return load_pretrained(str(path) if path.is_dir() else name_or_path, device, catalog)
    trouble = "is no network" if path.exists() else "does not exist"
    raise FileNotFoundError(
        f"network: {name_or_path} {trouble}; a network is head, street, topic, a file "
        f"({', '.join((OWN, *TORCHSCRIPT, *ONNX))}), a folder of the library transformers or a "
        "name on the Hugging Face hub"
    )
