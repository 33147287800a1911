"""Video whose objects are known on every frame: sequences with masks, as those of DAVIS.

A folder of sequences holds `NAME/images/*.jpg` and `NAME/masks/*.png`: the id of an object per
pixel, 0 for none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2vss_ros.errors import InputError
from sam2vss_ros.evaluation.mask_scores import Mask
from sam2vss_ros.io.image_files import Rgb, image_size, read_image
from sam2vss_ros.io.image_folders import images_by_stem, list_images
from sam2vss_ros.io.label_files import read_labels

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Clip:
    """A stretch of video and the K objects that are on its first frame.

    images, truths: the files of its T frames. objects: their names, each unique in its folder.
    regions: makes (H, W) ids of a truth file. ids: (T, K), which of them is which object.
    """

    name: str
    images: Sequence[Path]
    truths: Sequence[Path]
    objects: Sequence[str]
    regions: Callable[[Path], Ids]
    ids: Ids

    def __len__(self) -> int:
        return len(self.images)

    def image(self, t: int) -> Rgb:
        """(H, W, 3) uint8 RGB of frame t. Raises InputError."""
        return read_image(self.images[t])

    def masks(self, t: int) -> Mask:
        """(K, H, W) true masks of frame t. Raises InputError."""
        return np.asarray(self.regions(self.truths[t]) == self.ids[t][:, None, None])

    def first(self, frames: int) -> Clip:
        """Its first frames, all where it has no more."""
        return dataclasses.replace(
            self, images=self.images[:frames], truths=self.truths[:frames], ids=self.ids[:frames]
        )


def read_sequences(folder: Path) -> list[Clip]:
    """The sequences of a folder; what is on a first frame is what is followed.

    Raises InputError where there is none, and for images without masks, masks of another size, and
    a first frame without objects.
    """
    names = sorted(p.name for p in folder.iterdir() if (p / "images").is_dir())
    if not names:
        raise InputError(
            f"data: {folder} holds no sequences (NAME/images/*.jpg and NAME/masks/*.png) and is no "
            "labelled video (images/*.jpg and labels/*.png)"
        )
    return [_sequence(folder / name) for name in names]


def _sequence(folder: Path) -> Clip:
    images, masks = pair_files(folder / "images", folder / "masks")
    ids = np.setdiff1d(read_labels(masks[0]), 0)
    if len(ids) == 0:
        raise InputError(f"{masks[0]} is empty; what is followed must be on the first frame")
    name = folder.name
    objects = [name] if len(ids) == 1 else [f"{name}/{i}" for i in ids]
    return Clip(name, images, masks, objects, read_labels, np.tile(ids, (len(images), 1)))


def pair_files(images: Path, truths: Path) -> tuple[list[Path], list[Path]]:
    """The images in the order of their names, and for each the file in `truths` of its name.

    Raises InputError where one has none, or not all of them are of one size.
    """
    if not truths.is_dir():
        raise InputError(f"{images} has no {truths.name}: {truths} is not a folder")
    files, truth_of = list_images(images), images_by_stem(truths)
    for file in files:
        if file.stem not in truth_of:
            raise InputError(f"{file} has no file of its name in {truths}")
    pairs = files, [truth_of[file.stem] for file in files]
    width, height = image_size(files[0])
    for file in (*pairs[0], *pairs[1]):
        if image_size(file) != (width, height):
            other = "{}x{}".format(*image_size(file))
            raise InputError(f"{file} is {other}, but {files[0]} {width}x{height}")
    return pairs
