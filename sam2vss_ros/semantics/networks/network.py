"""What a segmentation network is to the rest: a frame in, log probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.networks.inputs import Input
from sam2vss_ros.types import Frame


class SegmentationNetwork(Protocol):
    """Approach 1's dense prediction, by whatever makes it."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def catalog(self) -> ClassCatalog:
        """The classes it predicts, in the order of its output."""

    def accepts(self, frame: Frame) -> bool:
        """Whether the frame holds what the network looks at."""

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of a frame, on the network's device.

        They cover the whole image, at whatever resolution the network has.
        """


class TensorNetwork:
    """A network that is a function of a tensor.

    run: (1, 3, h, w) float32, as `prepare` makes it of an image, -> (1, K, ., .) log probabilities.
    It is tried once, so that what does not work shows at the start. Raises ValueError where it
    fails, or has another number of classes than `catalog`.
    """

    def __init__(
        self,
        name: str,
        catalog: ClassCatalog,
        prepare: Input,
        run: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self.name = name
        self.catalog = catalog
        self._prepare = prepare
        self._run = run
        self._device = device
        try:
            with torch.inference_mode():
                found = len(self.log_probabilities(Frame(np.full((256, 256, 3), 128, np.uint8), 0)))
        except Exception as error:  # whatever a network of somebody else may raise
            reason = str(error).strip().rsplit("\n", 1)[-1]
            raise ValueError(f"network: {name} does not take an image: {reason}") from error
        if found != len(catalog):
            raise ValueError(
                f"network: {name} predicts {found} classes, but {catalog.name} has {len(catalog)}"
            )

    def accepts(self, frame: Frame) -> bool:
        """Every frame has an image."""
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of the frame's image."""
        return self._run(self._prepare.tensor(frame.image, self._device))[0]
