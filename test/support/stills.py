"""Labelled stills for tests."""

from __future__ import annotations

import numpy as np

from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.training.data import LabelledStill

CAMVID = load_catalog("camvid")


def two_halves(size: int = 64) -> LabelledStill:
    """Sky over road, a car in the middle, a column of void at the left."""
    labels = np.zeros((size, size), np.uint8)
    labels[size // 2 :] = 3
    labels[size // 2 - 8 : size // 2 + 8, 20:44] = 8
    labels[:, :4] = 255
    image = CAMVID.palette()[np.where(labels == 255, 11, labels)]
    return LabelledStill("halves", image, labels)
