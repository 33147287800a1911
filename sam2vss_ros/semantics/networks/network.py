"""What a segmentation network is to the rest: a frame in, log probabilities out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sam2vss_ros.errors import NetworkError, one_line, reason_of
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.networks.inputs import Input
from sam2vss_ros.types import Frame

log = logging.getLogger(__name__)


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


MULTIPLES = (1, 2, 4, 8, 14, 16, 32, 64)
"""What is tried, where nothing says of which number the sides of an input must be multiples."""

TRIAL = (257, 341)
"""About the height and width of what networks are tried on: both odd, without common factors."""

LEAST = -100.0
"""The least log probability: some networks rule classes out with minus infinity."""


class OutputError(ValueError):
    """What a network answers is not (1, classes, height, width) scores of its classes."""


class TensorNetwork:
    """A network that is a function of a tensor.

    run: (1, 3, h, w) float32, as `prepare` makes it of an image, -> (1, K, ., .) log probabilities.
    It is tried once, on an image with odd sides, so that what does not work shows at the start.
    Where it fails and `prepare` has no size and no multiple of its own, multiples are tried, and
    images are rounded to the first that works.
    Raises ValueError where it fails, or has another number of classes than `catalog`.
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
        self._run = run
        self._device = device
        self._prepare = self._tried(prepare)

    def accepts(self, frame: Frame) -> bool:
        """Every frame has an image."""
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        """(K, h, w) float32 log probabilities of the frame's image.

        Raises NetworkError, in one line, where the network fails or its answer is none.
        """
        pixels = self._prepare.tensor(frame.image, self._device)
        try:
            return self._answer(pixels)
        except Exception as error:  # whatever a network of somebody else may raise
            height, width = frame.image.shape[:2]
            raise NetworkError(
                f"network: {self.name} fails on an image of {width}x{height}: {reason_of(error)}"
            ) from error

    def _answer(self, pixels: Tensor) -> Tensor:
        answer = self._run(pixels)
        if answer.ndim != 4 or len(answer) != 1 or not answer.numel():
            raise OutputError(
                f"its output is {tuple(answer.shape)}, not (1, classes, height, width)"
            )
        if answer.shape[1] != len(self.catalog):
            raise OutputError(
                f"it predicts {answer.shape[1]} classes, but {self.catalog.name} has "
                f"{len(self.catalog)}"
            )
        if answer.isnan().any():
            raise OutputError("its scores are not numbers (NaN): broken weights, or a wrong range")
        return answer[0].clamp(min=LEAST)

    def _tried(self, prepare: Input) -> Input:
        """How images are prepared so that the network takes them."""
        silent = prepare.size is None and prepare.multiple == 1
        failure: Exception | None = None
        for multiple in MULTIPLES if silent else (prepare.multiple,):
            candidate = replace(prepare, multiple=multiple)
            # An odd multiple of each, so that no larger one fits by chance.
            height, width = (multiple * (side // multiple | 1) for side in TRIAL)
            image = np.full((height, width, 3), 128, np.uint8)
            try:
                with torch.inference_mode():
                    self._answer(candidate.tensor(image, self._device))
            except OutputError as error:
                raise ValueError(f"network: {self.name}: {error}") from error
            except Exception as error:  # whatever a network of somebody else may raise
                failure = failure or error
                continue
            if failure is not None:
                log.info(
                    "network %s: images are rounded to multiples of %d pixels, as its class file "
                    "may say (input: multiple: %d): others fail", self.name, multiple, multiple
                )  # fmt: skip
            return candidate
        assert failure is not None
        advice = (
            f" at its own size, nor with sides of multiples of {MULTIPLES[1]} to {MULTIPLES[-1]} "
            "(where it wants one size, its class file may say `input: size: [height, width]`)"
        )
        raise ValueError(
            f"network: {self.name} does not take an image{advice if silent else ''}: "
            f"{reason_of(failure)}"
        ) from failure


def refuse_broken_weights(name: str, module: nn.Module, option: str = "network") -> None:
    """Raise ValueError, for `option`, where weights are not finite: their labels would be of one
    class."""
    learned = {key for key, _ in module.named_parameters()}
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        # Other buffers may be infinite, such as masks of attention.
        finite = key in learned or "running_" in key
        if value.isnan().any() or (finite and value.isinf().any()):
            raise ValueError(
                f"{option}: {name} is damaged, or its training failed: {one_line(key, 100)} holds "
                "NaN or infinite weights"
            )
