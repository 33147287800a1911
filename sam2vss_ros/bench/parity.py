"""Parity: does our exact engine give the masks of upstream, and of transformers?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam2vss_ros.bench.streams import EngineStream, UpstreamStream, replaced
from sam2vss_ros.bench.transformers_stream import TransformersStream
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.types import Prompt

YARDSTICKS: dict[str, type[UpstreamStream] | type[TransformersStream]] = {
    "upstream": UpstreamStream,
    "transformers": TransformersStream,
}
"""What the engine is compared with. Upstream, the `sam2` package, has no EdgeTAM."""

LEAST_IOU = 0.999
"""Mean IoU from which two engines count as equal: what float32's rounding leaves."""


@dataclass(frozen=True)
class Parity:
    """How far our masks are from the yardstick's, over all objects and frames.

    The IoU is that of masks at stride 4, 1 where neither sees the object; `max_logit_diff` is the
    largest difference of their logits, in any pixel. `seen` is the share of objects and frames on
    which the yardstick sees the object: where it is small, little was compared.
    """

    mean_iou: float
    min_iou: float
    max_logit_diff: float
    frames: int
    objects: int
    seen: float

    @property
    def holds(self) -> bool:
        """Whether the masks are the same but for rounding."""
        return self.mean_iou >= LEAST_IOU


def compare(
    model: Sam2Model,
    images: Iterable[npt.NDArray[np.uint8]],
    prompts: Mapping[int, Sequence[Prompt]],
    exact_memory: bool = True,
    yardstick: str = "upstream",
) -> Parity:
    """Run both over images, (H, W, 3) RGB, with `prompts` by the frame they are given on.

    exact_memory: see `UpstreamStream`. yardstick: one of YARDSTICKS. Raises ValueError for one that
    has not the model, InputError where transformers is not installed.
    """
    if yardstick == "upstream" and model.card.edgetam:
        raise ValueError(f"yardstick: upstream has no {model.card.name}; take transformers")
    if yardstick == "transformers" and model.card.model_file is not None:
        raise ValueError(f"yardstick: transformers has no {model.card.name}; take upstream")
    count = sum(map(len, prompts.values()))
    ours = EngineStream(model, count, PRESETS["exact"])
    theirs = YARDSTICKS[yardstick](model.network, exact_memory)
    ious: list[Tensor] = []
    seen: list[Tensor] = []
    worst = 0.0
    # A GPU's convolutions would run in TF32 otherwise, and round differently from batch to batch.
    with replaced(torch.backends.cudnn, allow_tf32=False):
        for t, picture in enumerate(images):
            image = functional.image_tensor(picture, model.network.image_size, model.device)
            for stream in (ours, theirs):
                stream.advance(image, prompts.get(t, ()))
            ious.append(mask_iou(ours.masks, theirs.masks))
            seen.append((theirs.masks > 0).flatten(1).any(1).float())
            worst = max(worst, float((ours.masks - theirs.masks).abs().max()))
    every = torch.cat(ious)
    return Parity(
        float(every.mean()),
        float(every.min()),
        worst,
        len(ious),
        count,
        float(torch.cat(seen).mean()),
    )


def mask_iou(one: Tensor, other: Tensor) -> Tensor:
    """(B,) IoU of (B, s, s) mask logits; 1 where both are empty."""
    a, b = one > 0, other > 0
    return torch.where((a | b).flatten(1).any(1), iou_of(a, b), 1.0)
