"""Dense evidence kept from frame to frame: what a pixel showed before counts where it has gone."""

from __future__ import annotations

from torch import Tensor

from sam2vss_ros.stream.motion import Flow, carried

KEEP = 0.8
"""Share of a pixel's past in its evidence, where the flow to it is believed."""


class EvidenceMemory:
    """A running mean of log probabilities along the optical flow of a stream.

    The past fades where the flow is not believed. So images a second apart from a moving camera
    are left as they are.
    """

    def __init__(self) -> None:
        self._evidence: Tensor | None = None

    def clear(self) -> None:
        """Forget the past."""
        self._evidence = None

    def add(self, log_dense: Tensor, flow: Flow | None) -> Tensor:
        """Mean of a frame's (K, h, w) log probabilities with those remembered, moved by `flow`."""
        past = self._evidence
        if past is not None and flow is not None and past.shape == log_dense.shape:
            size = (log_dense.shape[-2], log_dense.shape[-1])
            places = flow.at(size, log_dense.device, most=KEEP)
            weight = places[2]
            log_dense = weight * carried(past, places) + (1 - weight) * log_dense
        self._evidence = log_dense
        return log_dense
