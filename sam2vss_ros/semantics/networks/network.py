"""What a segmentation network is to the rest: an image in, log probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.networks.inputs import Input


class SegmentationNetwork(Protocol):
    """Approach 1's dense prediction, by whatever makes it."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def catalog(self) -> ClassCatalog:
        """The classes it predicts, in the order of its output."""

    def log_probabilities(self, image: npt.NDArray[Any]) -> Tensor:
        """(H, W, 3) uint8 RGB -> (K, h, w) float32 log probabilities on the network's device.

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
                found = len(self.log_probabilities(np.full((256, 256, 3), 128, np.uint8)))
        except Exception as error:  # whatever a network of somebody else may raise
            reason = str(error).strip().rsplit("\n", 1)[-1]
            raise ValueError(f"network: {name} does not take an image: {reason}") from error
        if found != len(catalog):
            raise ValueError(
                f"network: {name} predicts {found} classes, but {catalog.name} has {len(catalog)}"
            )

    def log_probabilities(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 RGB -> (K, h, w) float32 log probabilities."""
        return self._run(self._prepare.tensor(image, self._device))[0]
