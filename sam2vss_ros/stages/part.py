"""A mask that has come apart was of two things: the larger goes on, the other may be found anew.

Two children who play before each other begin as one object, and so may a car and the next behind
it, where their looks lead from one to the other. What something thin stands before comes apart,
too, but its parts stay close.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.perception import Perception
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stages.mend import begin_again
from sam2vss_ros.stream.state import StreamState

LEAST_PART = 0.15
"""Share of a mask from which a part of it may be a thing."""

LEAST_GAP = 0.5
"""Between parts, by the side of a square as large as the smaller one."""


def part(
    perception: Perception, stream: StreamState, features: FrameFeatures, batch: ObjectBatch
) -> ObjectBatch:
    """The same objects, some with less of their masks. What users pointed at stays as it is."""
    remaining = {}
    masks = (batch.masks > 0).cpu().numpy()
    for i, (track, mask) in enumerate(zip(batch.tracks, masks, strict=True)):
        rest = None if track.prompted else without_what_parted(mask)
        if rest is not None:
            remaining[i] = rest
    return begin_again(perception, stream, features, batch, remaining)


def without_what_parted(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """An (h, w) mask without what has gone far from its largest part; None where nothing has."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [i for i in range(1, count) if areas[i] >= LEAST_PART * areas[1:].sum()]
    if len(large) < 2:
        return None
    largest = max(large, key=lambda i: areas[i])
    distance = _distance_to(numbers == largest)
    gone = [
        i
        for i in large
        if i != largest and distance[numbers == i].min() >= LEAST_GAP * areas[i] ** 0.5
    ]
    if not gone:
        return None
    # Crumbs go with the part that they lie by.
    return mask & (distance < _distance_to(np.isin(numbers, gone)))


def _distance_to(places: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """In pixels, of each pixel."""
    return np.asarray(cv2.distanceTransform((~places).view(np.uint8), cv2.DIST_L2, 3), np.float32)
