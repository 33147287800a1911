"""Points and boxes for a model that only understands masks: the dense region they mean.

A SAM 2 that was trained briefly may follow a given mask well, yet find none from a point or a box;
the dense prediction already knows which region lies there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam2vss_ros.semantics.regions import areas_of, connected_regions
from sam2vss_ros.types import Prompt

LEAST_FIT = 0.3
"""Least IoU of a region with a box; a box that no region fits is taken as it is."""


def region_at(
    prompt: Prompt, classes: npt.NDArray[np.integer], size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The connected region of equal class that a prompt means, (h, w) bool, never empty.

    prompt: points or a box in pixels of an image of `size` (height, width). classes: (h, w) class
    index of the dense prediction of that image.
    """
    regions = connected_regions(classes)
    height, width = classes.shape
    scale = np.array([width / size[1], height / size[0]])
    if prompt.box is not None:
        corners = np.array(prompt.box).reshape(2, 2) * scale
        (x0, y0), (x1, y1) = np.floor(corners[0]).astype(int), np.ceil(corners[1]).astype(int)
        box = np.zeros(classes.shape, bool)
        box[y0:y1, x0:x1] = True
        areas = areas_of(regions)
        inside = np.bincount(regions[box], minlength=len(areas))
        fit = inside / (areas + box.sum() - inside)
        best = int(fit.argmax())
        return (regions == best) & box if fit[best] >= LEAST_FIT else box
    assert prompt.points is not None and prompt.point_labels is not None
    cells = np.minimum((prompt.points * scale).astype(int), (width - 1, height - 1))
    hit = regions[cells[:, 1], cells[:, 0]]
    inside, outside = hit[prompt.point_labels == 1], hit[prompt.point_labels == 0]
    wanted = np.setdiff1d(inside, outside)
    # A region cannot be divided here: where points inside and outside share one, it counts.
    return np.isin(regions, wanted if len(wanted) else inside)
