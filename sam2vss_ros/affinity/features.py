"""What the trunk sees of images: the features that everything else of mobile works on."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.keys import KeyNet
from sam2vss_ros.affinity.memory import FINE, Reading
from sam2vss_ros.affinity.object_pointers import Keys
from sam2vss_ros.affinity.pointing import changes, unit_keys


@dataclass(frozen=True)
class TrunkFeatures:
    """pyramid: (B, C, ., .) maps at strides 4, 8 and 16, C different for each.

    images: (B, 3, h, w), what they are of, normalised. key_net: makes keys of them.
    """

    pyramid: tuple[Tensor, Tensor, Tensor]
    images: Tensor
    key_net: KeyNet

    def keys(self, reading: Reading) -> Tensor:
        """(h, w, C) keys of the first image, in the type of the pyramid."""
        return self._fine_keys if reading is FINE else self._coarse_keys

    def prepare(self, readings: Iterable[Reading]) -> None:
        """Compute now what objects that are followed by these readings will want."""
        for reading in readings:
            self.keys(reading)
        _ = self.colours, self.changes

    @functools.cached_property
    def _coarse_keys(self) -> Tensor:
        keys: Tensor = self.key_net(self.pyramid)
        return keys[0].to(self.pyramid[0].dtype)

    @functools.cached_property
    def _fine_keys(self) -> Tensor:
        return self.key_net.fine_keys(self.pyramid)[0].to(self.pyramid[0].dtype)

    @functools.cached_property
    def unit_keys(self) -> Keys:
        """Of the first image, for comparisons within it and with object pointers."""
        fine, middle, coarse = (unit_keys(level[:1]) for level in self.pyramid)
        return fine, middle, coarse

    @functools.cached_property
    def changes(self) -> tuple[Tensor, Tensor]:
        """(1, 2, ., .) each, `pointing.changes` of the first image at strides 4 and 8."""
        fine, middle = (torch.cat(changes(level), 1) for level in self.unit_keys[:2])
        return fine, middle

    @functools.cached_property
    def colours(self) -> Tensor:
        """(B, 3, ., .) images at stride 2, as fine as masks."""
        # The mean of four pixels, in a fifth of the time that pooling takes.
        return F.interpolate(self.images, scale_factor=0.5, mode="bilinear")

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of masks on the image: twice those of the finest map."""
        height, width = self.pyramid[0].shape[-2:]
        return 2 * height, 2 * width

    def select(self, index: Tensor) -> TrunkFeatures:
        """The features of images `index`, (N,) int64."""
        fine, middle, coarse = self.pyramid
        pyramid = fine[index], middle[index], coarse[index]
        return TrunkFeatures(pyramid, self.images[index], self.key_net)
