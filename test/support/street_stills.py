"""Labelled stills of a street, and semantics with random weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.model import SemanticModel, new_semantics
from sam2vss_ros.training.data import LabelledStill

CAMVID = load_catalog("camvid")
CPU = torch.device("cpu")


def street(name: str = "a_0", size: int = 64, shade: int = 0) -> LabelledStill:
    """Sky over road, a pole in the middle, a column of void at the left; in their own colours."""
    labels = np.zeros((size, size), np.uint8)
    labels[size // 2 :] = 3
    labels[8 : size // 2, size // 2 : size // 2 + 3] = 2
    labels[:, :4] = 255
    image = CAMVID.palette()[np.where(labels == 255, 11, labels)]
    return LabelledStill(name, np.maximum(image, shade).astype(np.uint8), labels)


def worn_semantics(image_size: int = 64) -> SemanticModel:
    """Random weights, and normalisations as a training leaves them."""
    torch.manual_seed(5)
    model = new_semantics(CAMVID, image_size)
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.3
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    model.head.eval()
    model.classifier.eval()
    return model
