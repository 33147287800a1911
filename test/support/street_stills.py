"""Labelled stills of a street, and the embedded network with random weights."""

from __future__ import annotations

import numpy as np
import torch

from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.embedded import (
    NetworkCard,
    StreetNet,
)
from sam2vss_ros.training.data import LabelledStill

CAMVID = load_catalog("camvid")
CPU = torch.device("cpu")
CARD = NetworkCard(CAMVID, 64, 1.5, {"steps": 0})


def street(name: str = "a_0", size: int = 64, shade: int = 0) -> LabelledStill:
    """Sky over road, a pole in the middle, a column of void at the left; in their own colours."""
    labels = np.zeros((size, size), np.uint8)
    labels[size // 2 :] = 3
    labels[8 : size // 2, size // 2 : size // 2 + 3] = 2
    labels[:, :4] = 255
    image = CAMVID.palette()[np.where(labels == 255, 11, labels)]
    return LabelledStill(name, np.maximum(image, shade).astype(np.uint8), labels)


def worn_network() -> StreetNet:
    """Random weights, and normalisations as a training leaves them."""
    torch.manual_seed(5)
    model = StreetNet(len(CAMVID))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.3
            module.running_var = torch.rand(module.num_features) + 0.5
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()
