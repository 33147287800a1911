"""Which world the semantics know: scenes like those of their training, unlike those of elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from sam2vss_ros.affinity.model import AffinityModel
from sam2vss_ros.errors import InputError
from sam2vss_ros.io.readers import open_frames
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
    elsewhere: Sequence[Path] = (),
) -> None:
    """Tell the semantics which world they know: that of `stills`.

    elsewhere: videos and folders of images with other scenes; none: those that the world has now.
    Raises InputError for what cannot be read.
    """
    others = semantics.world.elsewhere.cpu()
    if elsewhere:
        others = _impressions(trunk, semantics, sample_frames(elsewhere), "look elsewhere")
    here = _impressions(trunk, semantics, [still.image for still in stills], "get acquainted")
    semantics.world.learn(here, others)


def sample_frames(paths: Sequence[Path], count: int = ELSEWHERE) -> list[Rgb]:
    """`count` images of videos and folders, as many of each and from all of its length; short ones
    give some of theirs twice.

    Raises InputError for what cannot be read, and for more recordings than `count`.
    """
    if len(paths) > count:
        raise InputError(f"elsewhere: {len(paths)} recordings are more than the {count} images kept")
    shares = np.bincount(np.arange(count) % len(paths)).tolist()
    read = tqdm(paths, unit="recording", desc="read elsewhere")
    return [image for path, share in zip(read, shares, strict=True) for image in _spread(path, share)]


def _spread(path: Path, count: int) -> list[Rgb]:
    """`count` images of a video or folder, from its beginning to its end."""
    kept: list[Rgb] = []
    step = 1
    for i, image in enumerate(open_frames(path).read()):
        if i % step:
            continue
        kept.append(image)
        if len(kept) == MOST * count:
            kept, step = kept[::2], 2 * step
    return [kept[round(i)] for i in np.linspace(0, len(kept) - 1, count)]


def _impressions(
    trunk: AffinityModel, semantics: SemanticModel, images: Sequence[Rgb], what: str
) -> Tensor:
    """(N, IMPRESSION) of N images."""
    found = []
    with torch.no_grad():
        for image in tqdm(images, unit="image", desc=what):
            _, _, coarse = trunk_maps(trunk, semantics, image)
            found.append(semantics.world.impressions(coarse).cpu())
    return torch.cat(found)
