"""Label images that somebody else made, as a network's prediction."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.semantics.catalog import IMAGE_ID_LIMIT, ClassCatalog
from sam2vss_ros.semantics.networks.inputs import MOST_SIDE
from sam2vss_ros.sizes import with_longer_side
from sam2vss_ros.types import Frame

SURE = 0.9
"""A label image does not say how sure it is: its class is taken to be right with this probability,
the others share the rest."""


class LabelImages:
    """The network behind the label images that come with the frames."""

    name = "topic"

    def __init__(self, catalog: ClassCatalog, device: torch.device) -> None:
        self.catalog = catalog
        count = len(catalog)
        self._row = np.full(IMAGE_ID_LIMIT, count, np.int64)
        self._row[catalog.ids] = np.arange(count)
        # The last row is for ids of no class, such as unlabelled: they say nothing.
        rows = torch.full((count + 1, count), 1 / count)
        rows[:count] = (1 - SURE) / max(1, count - 1)
        rows[:count].fill_diagonal_(SURE)
        self._log_rows = rows.log().log_softmax(1).to(device)

    def accepts(self, frame: Frame) -> bool:
        """Whether labels came with the frame."""
        return frame.dense_labels is not None

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of the frame's dense labels, at most MOST_SIDE wide
        or high."""
        labels = frame.dense_labels
        assert labels is not None
        if max(labels.shape) > MOST_SIDE:
            height, width = with_longer_side(labels.shape[0], labels.shape[1], MOST_SIDE)
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        rows = torch.from_numpy(self._row[labels]).to(self._log_rows.device)
        return self._log_rows.T[:, rows]
