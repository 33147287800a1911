"""Which world the semantics know: scenes like those of their training, unlike others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.io.readers import FrameSource
from sam2vss_ros.semantics.familiarity import ELSEWHERE
from sam2vss_ros.semantics.model import SemanticModel
from sam2vss_ros.training.calibration import trunk_maps
from sam2vss_ros.training.data import LabelledStill

Rgb = npt.NDArray[np.uint8]

MOST = 4
"""Times as many images of a recording as are wanted are held at the most."""


def acquaint(
    trunk: AffinityModel,
    semantics: SemanticModel,
    stills: Sequence[LabelledStill],
    elsewhere: Sequence[FrameSource] = (),
) -> None:
    """Tell the semantics which world they know: that of `stills`.

    elsewhere: recordings of other scenes; none: what the world has of them now. Raises InputError
    for a frame that cannot be read.
    """
    others = semantics.world.elsewhere.cpu()
    if elsewhere:
        others = _impressions(trunk, semantics, sample_frames(elsewhere), "look elsewhere")
    here = _impressions(trunk, semantics, [still.image for still in stills], "get acquainted")
    semantics.world.learn(here, others)


def sample_frames(recordings: Sequence[FrameSource], count: int = ELSEWHERE) -> list[Rgb]:
    """`count` images, as many of each recording and from all of its length.

    Short ones give some of theirs twice; of more recordings than images some are left out. Raises
    InputError for a frame that cannot be read.
    """
    chosen = [recordings[i] for i in _spread(len(recordings), min(len(recordings), count))]
    shares = np.bincount(np.arange(count) % len(chosen)).tolist()
    read = tqdm(chosen, unit="recording", desc="read elsewhere")
    return [image for one, n in zip(read, shares, strict=True) for image in _sample(one, n)]


def _sample(recording: FrameSource, count: int) -> list[Rgb]:
    kept: list[Rgb] = []
    step = 1
    for i, image in enumerate(recording.read()):
        if i % step:
            continue
        kept.append(image)
        if len(kept) == MOST * count:
            kept, step = kept[::2], 2 * step
    return [kept[i] for i in _spread(len(kept), count)]


def _spread(length: int, count: int) -> list[int]:
    """`count` indices from the first to the last."""
    return [round(i) for i in np.linspace(0, length - 1, count).tolist()]


def _impressions(
    trunk: AffinityModel, semantics: SemanticModel, images: Sequence[Rgb], what: str
) -> Tensor:
    """(N, IMPRESSION) of N images."""
    found = []
    with torch.no_grad():
        for image in tqdm(images, unit="image", desc=what):
            _, _, coarse = trunk_maps(trunk, semantics, image)
            found.append(semantics.world.impressions(coarse.cpu()))
    return torch.cat(found)
