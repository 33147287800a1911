"""Steadiness of label images over time: mVC, flicker and consistency along optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sam2vss_ros.evaluation.confusion import (
    Counts,
    IndexImage,
    LabelImage,
    mean,
    pair_counts,
    per_class_iou,
)

WINDOWS = (8, 16)
PHOTOMETRIC_LIMIT = 20
"""Grey levels (of 255) by which a pixel may differ from where the flow says it came from."""

_SMALLEST_FLOW = 32
"""Pixels along each side of an image; in narrow ones OpenCV's flow reads beyond its memory."""

Mask = npt.NDArray[np.bool_]


class WindowScore(NamedTuple):
    """Video consistency of one window, or its mean over windows; 0..1, NaN where nothing counts.

    vc: of the pixels whose ground truth is constant, the share whose prediction is constant, too.
    void_out: the same without void pixels. strict: of the pixels that constantly have one true
    class, the share that is given this class in every frame.
    """

    vc: float
    void_out: float
    strict: float


class VideoConsistency:
    """mVC (VSPW; Miao et al., CVPR 2021), its strict variant, and flicker.

    As VSPW's script counts: windows of C consecutive labelled frames, one at every frame, the last
    of a clip left out, so that clips of C frames or fewer have none; the mean is over the windows
    of all clips; a window without a pixel of constant ground truth has no part in it.

    Nothing but the length of each pixel's current run is kept, whatever the windows.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS) -> None:
        self._sums = {w: np.zeros(3) for w in windows}
        self._windows = {w: np.zeros(3, np.int64) for w in windows}
        self._compared = self._flickered = 0
        self.start_clip()

    def start_clip(self) -> None:
        """The next frame does not follow the last one."""
        self._last: tuple[LabelImage, LabelImage] | None = None
        self._open: dict[int, WindowScore] = {}

    def update(
        self, labels: LabelImage, prediction: LabelImage, scored: Mask, right: Mask
    ) -> float:
        """Take the next frame of a clip. All are (H, W): ids, where the truth is a class, and where
        the prediction is that class. Returns the frame's flicker, NaN for the first of a clip.

        A frame of another size begins a new clip.
        """
        if self._last is None or self._last[0].shape != labels.shape:
            self.start_clip()
            self._truth_run, self._predicted_run, self._right_run = np.zeros(
                (3, *labels.shape), np.uint8
            )
            self._last = labels, prediction
        for window, score in self._open.items():
            self._sums[window] += np.nan_to_num(score)
            self._windows[window] += ~np.isnan(score)
        self._truth_run = np.where(labels == self._last[0], _longer(self._truth_run), 1)
        self._predicted_run = np.where(prediction == self._last[1], _longer(self._predicted_run), 1)
        self._right_run = _longer(self._right_run) * right
        self._last = labels.copy(), prediction.copy()
        self._open = {window: self._window(window, scored) for window in self._sums}
        comparable = (self._truth_run > 1) & scored
        compared = np.count_nonzero(comparable)
        flickered = np.count_nonzero(comparable & (self._predicted_run == 1))
        self._compared += compared
        self._flickered += flickered
        return flickered / compared if compared else float("nan")

    def _window(self, window: int, scored: Mask) -> WindowScore:
        """The window that ends with the frame just taken."""
        constant = self._truth_run >= window
        steady = constant & (self._predicted_run >= window)
        scored = constant & scored
        return WindowScore(
            _share(steady, constant),
            _share(steady & scored, scored),
            _share(scored & (self._right_run >= window), scored),
        )

    def merge(self, later: VideoConsistency) -> None:
        """Count the windows and pixels of another one, of the clips that follow."""
        for window in self._sums:
            self._sums[window] += later._sums[window]
            self._windows[window] += later._windows[window]
        self._compared += later._compared
        self._flickered += later._flickered

    def mvc(self, window: int) -> WindowScore:
        """Mean over all windows of this length, 0..1; NaN where there is none."""
        sums, windows = self._sums[window], self._windows[window]
        return WindowScore(
            *(float(s / n) if n else float("nan") for s, n in zip(sums, windows, strict=True))
        )

    def flicker(self) -> float:
        """Share of the pixels with the same true class as in the frame before whose prediction
        is not the same, over all frames; NaN where none was compared."""
        return self._flickered / self._compared if self._compared else float("nan")


class FlowConsistency:
    """mIoU between the prediction for a frame and the next one's, brought back along optical flow.

    VSPW's TC with a flow that needs no network: OpenCV's DIS, preset medium (Kroeger et al., ECCV
    2016). A pixel that flows out of the image, or whose grey value is not found again within
    `PHOTOMETRIC_LIMIT` (occluded, or flow gone wrong), is dropped. Needs no ground truth.
    """

    def __init__(self, classes: int) -> None:
        self._none = classes
        self.counts: Counts = np.zeros((classes, classes + 1), np.int64)
        """(C, C + 1) pixels: row the class in a frame, column that in the next, the last: none."""
        self.start_clip()

    def start_clip(self) -> None:
        """The next frame does not follow the last one."""
        self._last: tuple[npt.NDArray[np.uint8], IndexImage] | None = None
        self._flow: Any = None

    def update(self, image: npt.NDArray[np.uint8], prediction: IndexImage) -> float:
        """Compare a frame with the one before: (H, W, 3) uint8 RGB and the (H, W) index image.

        Returns the pair's own mIoU, NaN for the first of a clip and for images narrower than 32
        pixels. A frame of another size begins a new clip. Raises ValueError where image and
        prediction differ in size.
        """
        if image.shape[:2] != prediction.shape:
            raise ValueError(f"the image is {image.shape[:2]}, the prediction {prediction.shape}")
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        last, self._last = self._last, (grey, prediction)
        if last is None or last[0].shape != grey.shape or min(grey.shape) < _SMALLEST_FLOW:
            return float("nan")
        if self._flow is None:  # of a clip: it cannot be sent to another process
            self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        y, x = np.indices(grey.shape, np.float32)
        flow = self._flow.calc(last[0], grey, None)
        x, y = x + flow[..., 0], y + flow[..., 1]
        back = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        height, width = grey.shape
        found = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        found &= cv2.absdiff(last[0], back) <= PHOTOMETRIC_LIMIT
        rows = np.where(found, last[1], self._none)
        columns = cv2.remap(prediction, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        counts = pair_counts(rows, columns, (self._none + 1, self._none + 1))[: self._none]
        self.counts += counts
        return mean(per_class_iou(counts))

    def miou(self) -> float:
        """Mean over the classes that were predicted, 0..1; NaN before any pair was compared."""
        return mean(per_class_iou(self.counts))


def _longer(run: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Every run one frame longer, as far as 8 bits count."""
    return np.minimum(run, 254) + np.uint8(1)


def _share(part: Mask, whole: Mask) -> float:
    count = np.count_nonzero(whole)
    return np.count_nonzero(part) / count if count else float("nan")
