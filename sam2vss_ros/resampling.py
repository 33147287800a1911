"""Maps of another size, bilinearly.

On a CPU maps are resampled one by one, by OpenCV: several times as fast as by torch.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, ., .) maps -> (N, height, width), float32 on a CPU; between the places of the maps, so
    that smaller ones leave some out."""
    if maps.device.type != "cpu":
        return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    made = np.empty((len(maps), *size), np.float32)
    for map_, out in zip(maps.float().numpy(), made, strict=True):
        resized(map_, size, out)
    return torch.from_numpy(made)


def resized(
    map_: npt.NDArray[np.float32], size: tuple[int, int], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """One such map, into `out` where that is given."""
    made = cv2.resize(map_, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return np.asarray(made, np.float32)
