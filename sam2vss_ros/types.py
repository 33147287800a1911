"""What goes into the pipeline and what comes out of it.

Pixel coordinates count from the top left corner of the camera image, x to the right and y down
(REP 103's optical frame); sizes are in pixels, times in nanoseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Frame:
    """One camera image. `image` is (height, width, 3) uint8, RGB; `stamp_ns` its capture time.

    dense_labels: (h, w) uint8 or uint16, the image's labels as somebody else's network sees them,
    at its resolution; they count where the option `network` is topic. Raises ValueError for other
    shapes and types.
    """

    image: npt.NDArray[np.uint8]
    stamp_ns: int
    dense_labels: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.image), getattr(self.image, "dtype", None)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            raise ValueError(
                f"a frame is a (height, width, 3) uint8 RGB array, not {shape} of {dtype}"
            )
        labels = self.dense_labels
        if labels is not None and (
            labels.ndim != 2 or 0 in labels.shape or labels.dtype not in (np.uint8, np.uint16)
        ):
            raise ValueError(
                f"dense labels are a (height, width) array of uint8 or uint16, not {labels.shape} "
                f"of {labels.dtype}"
            )


@dataclass(frozen=True)
class Prompt:
    """What a user points at: exactly one of points, a box or a mask.

    points: (N, 2) float32, x and y in pixels. point_labels: (N,) 1 for the object, 0 for what
    is not part of it. box: x0, y0, x1, y1 in pixels. mask: (height, width) bool, the size of
    the camera image. class_id: the object's class if the user knows it, else None.
    Raises ValueError for anything else.
    """

    points: npt.NDArray[np.float32] | None = None
    point_labels: npt.NDArray[np.int32] | None = None
    box: tuple[float, float, float, float] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    class_id: int | None = None

    def __post_init__(self) -> None:
        given = [k for k in ("points", "box", "mask") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"a prompt has points, a box or a mask; this one has {given or None}")
        if self.points is not None:
            labels = self.point_labels
            if self.points.ndim != 2 or self.points.shape[1] != 2 or len(self.points) == 0:
                raise ValueError(f"points are (N, 2) pixels, not {self.points.shape}")
            if labels is None or labels.shape != self.points.shape[:1]:
                raise ValueError("every point needs a label: 1 object, 0 background")
            if not np.isin(labels, (0, 1)).all() or not (labels == 1).any():
                raise ValueError("point labels are 0 or 1, with at least one 1")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"a box is x0 < x1, y0 < y1 in pixels, not {self.box}")
        if self.mask is not None and (self.mask.ndim != 2 or not self.mask.any()):
            raise ValueError("a mask prompt is a (height, width) array with at least one pixel set")


class TrackState(enum.IntEnum):
    """The life of a tracked object; the numbers are those of the ROS message."""

    TENTATIVE = 1  # seen, not yet long enough to be confirmed
    CONFIRMED = 2  # seen now, and for long enough
    OCCLUDED = 3  # confirmed, not visible for a few frames
    LOST = 4  # not visible for long; remembered, no longer propagated


@dataclass(frozen=True)
class TrackedObject:
    """One object of the memory as it stands after a frame.

    `mask` is (height, width) bool, cropped to `box` = x, y, width, height in pixels; both are
    empty (0 x 0) when the object is not visible. `area` counts pixels, `centroid` is x, y in
    pixels, `age` and `frames_since_seen` count processed frames. `class_probabilities` is (C,)
    float32 in the catalog's order, adding up to 1 but for what is none of its words; `class_id` is
    the catalog's unlabelled id while its class is unknown; `class_score` is then that of the
    likeliest class that it may have. Scores run from 0 to 1.
    """

    track_id: int
    state: TrackState
    class_id: int
    class_name: str
    class_score: float
    class_probabilities: npt.NDArray[np.float32]
    predicted_iou: float
    visibility: float
    box: tuple[int, int, int, int]
    area: int
    centroid: tuple[float, float]
    age: int
    frames_since_seen: int
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SemanticFrame:
    """The pipeline's answer to one frame; every image has the size of the camera image.

    label_image: (H, W) uint8 (uint16 when the catalog needs it), class id per pixel.
    confidence_image: (H, W) uint8, 0..255 for 0..1.
    instance_image: (H, W) uint16, track id per pixel, 0 where no object is
    (`instance_value` gives the value of ids beyond 16 bits).
    entropy_image: (H, W) float32, of the probabilities of all classes in nats; None where the
    pipeline is not asked for it.
    coverage: share of the pixels owned by a track. timings_ms: milliseconds by stage.
    degraded: what was left out to keep `target_fps`, in plain words. late: the target is missed
    although everything that may be left out is. scene_cut: the picture is another one than before
    and all objects were lost. time_jump: so much time has passed that only those were kept that
    still look like themselves. began_anew: time ran backwards and all objects were forgotten.
    out_of_order: the frame was a little older than the last and was not looked at; all else is the
    answer to that one. carried: the networks have not looked; the last answer for which they have
    was moved along the optical flow.
    """

    stamp_ns: int
    label_image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    confidence_image: npt.NDArray[np.uint8]
    instance_image: npt.NDArray[np.uint16]
    objects: tuple[TrackedObject, ...]
    keyframe: bool
    coverage: float
    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    late: bool = False
    scene_cut: bool = False
    time_jump: bool = False
    began_anew: bool = False
    out_of_order: bool = False
    carried: bool = False
    entropy_image: npt.NDArray[np.float32] | None = None


def instance_value(track_id: int) -> int:
    """A track id's 16-bit value in the instance image: the id itself to 65535, then 1, 2..."""
    return (track_id - 1) % 65535 + 1
