"""A second look: what semantics say of an image at several sizes and of its mirror image, averaged.

It is better than one look and costs five times as much, so a head learns from it what it says
("knowledge distillation", Hinton et al., 2015; from such averages "Data Distillation", Radosavovic
et al., CVPR 2018). The teacher sees images as they are, the head relit and zoomed views of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.model import SIZE_STEP, AffinityModel
from sam2vss_ros.sam2.functional import image_tensor
from sam2vss_ros.semantics.model import SemanticModel
from sam2vss_ros.semantics.segmenter import DenseHead, folded
from sam2vss_ros.training.data import LabelledStill

ZOOMS = (0.75, 1.25)
STRIDE = 4
"""Of the answers, at the semantics' own image size."""


def second_look(
    trunk: AffinityModel, semantics: SemanticModel, stills: list[LabelledStill]
) -> list[LabelledStill]:
    """The stills with what `semantics` say of each at a second look."""
    head = folded(semantics.head).to(trunk.device, trunk.trunk_dtype)
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    at = replace(trunk, image_size=semantics.image_size)
    shown = tqdm(stills, unit="image", desc="look twice")
    return [replace(still, second=_look(at, head, still.image)) for still in shown]


@torch.inference_mode()
def _look(
    trunk: AffinityModel, head: DenseHead, image: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB -> (h, w, K) probabilities of the classes, 0 to 255."""
    height, width = trunk.input_size((image.shape[0], image.shape[1]))
    grid = (height // STRIDE, width // STRIDE)

    def look(size: tuple[int, int], mirrored: bool = False) -> Tensor:
        pixels = image_tensor(image, size, trunk.device)
        logits = head(trunk.encode(pixels.flip(3) if mirrored else pixels).pyramid).logits.float()
        logits = F.interpolate(logits, grid, mode="bilinear", align_corners=False)
        return (logits.flip(3) if mirrored else logits)[0].log_softmax(0)

    looks = [look((height, width)), look((height, width), mirrored=True)]
    for zoom in ZOOMS:
        rows, columns = (max(1, round(zoom * s / SIZE_STEP)) * SIZE_STEP for s in (height, width))
        looks.append(look((rows, columns)))
    mean = torch.stack(looks).mean(0).softmax(0)
    return (255 * mean).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
