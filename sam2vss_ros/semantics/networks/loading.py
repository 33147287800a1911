"""From the option `network` to a network."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sam2vss_ros.config import DENSE_MODES, PipelineConfig
from sam2vss_ros.errors import one_line
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.semantics.networks.class_mapping import load_class_map, map_classes
from sam2vss_ros.semantics.networks.files import ONNX, TORCHSCRIPT, load_file
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.semantics.networks.network import SegmentationNetwork
from sam2vss_ros.semantics.networks.pretrained import load_pretrained, was_fetched

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def open_network(
    config: PipelineConfig, semantics: ClassCatalog, device: torch.device
) -> SegmentationNetwork | None:
    """The network of a resolved config, in the classes that are published; None: the dense head.

    Those are the classes of the semantics, but for a network that is not joined to them and is used
    in a mode that needs no more than the dense prediction: then they are its own.
    Raises as `load_network`, and ValueError for a class map that does not fit.
    """
    if config.network == "head":
        for name in ("network_classes", "class_map"):
            if getattr(config, name):
                raise ValueError(f"{name}: the head has the classes of the semantics")
        return None
    network: SegmentationNetwork
    if config.network == "topic":
        labels = load_catalog(config.network_classes) if config.network_classes else semantics
        network = LabelImages(labels, device)
    else:
        network = load_network(
            config.network, device, config.network_classes, config.allow_torchscript
        )
    foreign = {c.name for c in network.catalog.classes} != {c.name for c in semantics.classes}
    if foreign and not config.class_map and config.mode in DENSE_MODES:
        return network
    return map_classes(
        network, semantics, load_class_map(config.class_map) if config.class_map else {}
    )


def load_network(
    name_or_path: str, device: torch.device, classes: str = "", allow_torchscript: bool = False
) -> SegmentationNetwork:
    """Load a network that looks at images, ready for inference on `device`.

    name_or_path: a TorchScript or ONNX file, a folder of the library transformers, or the name on
    the Hugging Face hub of a model that was fetched before: nothing is looked up in the network.
    classes: class file (a path, or the name of a shipped one) that replaces the network's own.
    allow_torchscript: as the option.
    Raises FileNotFoundError or ValueError, naming the option `network`, for what cannot be used.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (*TORCHSCRIPT, *ONNX) and not path.is_dir():
        return load_file(path, device, classes, allow_torchscript)
    catalog = load_catalog(classes) if classes else None
    if path.is_dir():
        return load_pretrained(str(path), device, catalog)
    if path.exists():
        trouble = "is no network"
    elif HUB_NAME.fullmatch(name_or_path):
        if was_fetched(name_or_path):
            return load_pretrained(name_or_path, device, catalog)
        trouble = (
            "does not exist as a folder, nor was it fetched from the Hugging Face hub (sam2vss "
            f"models --fetch {name_or_path})"
        )
    else:
        trouble = "does not exist"
    raise FileNotFoundError(
        f"network: {one_line(name_or_path)} {trouble}; a network is head, topic, a file "
        f"({', '.join((*TORCHSCRIPT, *ONNX))}), a folder of the library transformers or the name "
        "of one that was fetched from the Hugging Face hub"
    )
