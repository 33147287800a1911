"""Dense evidence kept from frame to frame: what a pixel showed before counts where it has gone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

KEEP = 0.8
"""Share of a pixel's past in its evidence, where the past looks the same."""

ALIKE = 15.0
"""Difference in grey levels (of 255, Gaussian) by which the past no longer looks the same."""

CLOSE = 2.0
"""Pixels (Gaussian) by which flow forth and back may miss where it began to be believed."""

FLOW_SIDE = 320
"""Longer side in pixels of the images between which optical flow is found."""


class EvidenceMemory:
    """A running mean of log probabilities along the optical flow of a stream (OpenCV's DIS).

    The past fades where the image, moved by the flow, does not match, and where the flow back does
    not lead to where it came from: at what was hidden, and nearly everywhere when frames have
    little in common. So images a second apart from a moving camera are left as they are.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.clear()

    def clear(self) -> None:
        """Forget the past."""
        self._image: npt.NDArray[np.uint8] | None = None
        self._evidence: Tensor | None = None

    def add(self, image: npt.NDArray[np.uint8], log_dense: Tensor) -> Tensor:
        """Mean of (K, h, w) log probabilities of an (H, W, 3) RGB image with those remembered."""
        scale = FLOW_SIDE / max(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        grey = cv2.cvtColor(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        )
        past, before = self._evidence, self._image
        if past is not None and before is not None:
            same = past.shape == log_dense.shape and before.shape == grey.shape
            log_dense = self._joined(grey, before, log_dense, past) if same else log_dense
        self._image, self._evidence = np.asarray(grey, np.uint8), log_dense
        return log_dense

    def _joined(
        self, now: npt.NDArray, before: npt.NDArray, log_dense: Tensor, past: Tensor
    ) -> Tensor:
        height, width = now.shape
        flow = self._flow.calc(now, before, None)  # type: ignore[call-overload]
        back = self._flow.calc(before, now, None)  # type: ignore[call-overload]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        x, y = x + flow[..., 0], y + flow[..., 1]
        moved = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = cv2.GaussianBlur(cv2.absdiff(moved, now).astype(np.float32), (0, 0), 1.5)
        returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        miss = np.square(flow + returned).sum(-1)
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        weight = KEEP * np.exp(-np.square(change / ALIKE) - miss / CLOSE**2) * inside
        # Bicubic, since evidence is sampled anew on every frame and thin things would blur away.
        # Places in the image as grid_sample counts them, -1 to 1 from edge to edge.
        places = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, weight])
        maps = torch.from_numpy(places).float().to(log_dense.device)[None]
        maps = F.interpolate(maps, log_dense.shape[-2:], mode="bilinear", align_corners=False)[0]
        warped = F.grid_sample(
            past[None], maps[None, :2].permute(0, 2, 3, 1), "bicubic", "border", False
        )[0]
        return maps[2] * warped + (1 - maps[2]) * log_dense
