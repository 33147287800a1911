"""The paper's refiner as a baseline: SAM 2 offline, window by window.

"Evaluating SAM2 for Video Semantic Segmentation" (arXiv 2512.01774), approach 1: in windows of 32
frames masks are found on the first frame and followed to the last; the segmentation network labels
every frame; a masklet m takes the class c_m = argmax_c #{S(x, y) = c in m}, and what lies in no
masklet keeps the label S of the network. Every window begins anew.

Where the texts at hand of the paper leave it open, this is done here:

* c_m has no index of time, so the count goes over the masklet's whole volume in the window. It
  takes all pixels of m, also those that other masklets cover.
* A pixel in several masklets is painted by the one with the highest mask logit; where these are
  equal, as for the given masks of the first frame, by the one that discovery put first.
* Masklets are the model's own (SAM 2's by the `exact` engine), every frame remembered, none dropped
  on the way.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.evaluation.evaluate import LabelledOutput
from sam2vss_ros.perception import Perception
from sam2vss_ros.resampling import bilinear
from sam2vss_ros.sam2.discovery import Source, select
from sam2vss_ros.sam2.masklets import Masklets
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.semantics.fusion import owners
from sam2vss_ros.stages import features
from sam2vss_ros.stages.decide import label_size
from sam2vss_ros.stages.features import Predicted
from sam2vss_ros.stream.motion import Motion
from sam2vss_ros.types import Frame

WINDOW = 32
"""Frames over which masklets are followed (the paper's)."""

MOST_MASKLETS = 256
"""Masklets of a window where no limit is given: one for each point of the paper's grid."""


class _Labelled(NamedTuple):
    """A frame that waits for the end of its window.

    classes: (h, w) int16, the network's class index per pixel. masklets: (h, w) int16, the masklet
    that paints it, -1 for none. size: (height, width) of the image.
    """

    classes: npt.NDArray[np.int16]
    masklets: npt.NDArray[np.int16]
    size: tuple[int, int]
    seconds: float


class PaperRefiner:
    """A labeller of the paper's approach 1, on a pipeline's networks.

    Of the options those of the networks, the classes and discovery hold. The time of a frame is
    what it takes to compute; that its labels come only at the end of the window is not counted. At
    most a window of label images waits, at the size at which labels are decided.

    source: where masks come from, instead of what `discovery` names. masklets: the most per window,
    0 for all up to `MOST_MASKLETS`.
    """

    def __init__(
        self,
        perception: Perception,
        config: PipelineConfig,
        masklets: int = 0,
        source: Source | None = None,
    ) -> None:
        self.config = dataclasses.replace(
            perception.stream_config(config), engine="exact", max_objects=masklets or MOST_MASKLETS
        )
        self._perception = perception
        self._source = source or perception.new_source(self.config, perception.words)

    @property
    def catalog(self) -> ClassCatalog:
        """The classes of the label images."""
        return self._perception.catalog

    def label(self, frames: Iterable[Frame]) -> Iterator[LabelledOutput]:
        """One answer per frame, at the end of each window; a frame that fails is skipped."""
        frames = iter(frames)
        while True:
            window = _Window(self._perception, self.config, self._source)
            for frame in islice(frames, WINDOW):
                window.follow(frame)
            if not window.waiting:
                return
            yield from window.labels()


class _Window:
    """The frames from one search for masks to the next, and the masklets that run through them."""

    def __init__(
        self, perception: Perception, config: PipelineConfig, source: Source | None
    ) -> None:
        self.waiting: deque[_Labelled | LabelledOutput] = deque()
        self._perception = perception
        self._config = config
        self._source = source
        self._masklets: Masklets | None = None  # until the first frame is searched
        self._motion = Motion()
        self._votes = torch.zeros(0, len(perception.catalog), dtype=torch.int64)

    def follow(self, frame: Frame) -> None:
        """Follow the masklets to a frame, and count the classes in them."""
        start = time.perf_counter()
        try:
            classes, masklets = self._find(frame)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.waiting.append(LabelledOutput(None, time.perf_counter() - start, failure=reason))
        else:
            seconds = time.perf_counter() - start
            height, width = frame.image.shape[:2]
            self.waiting.append(_Labelled(classes, masklets, (height, width), seconds))

    def labels(self) -> Iterator[LabelledOutput]:
        """Paint the frames that wait, with the class of each masklet."""
        catalog = self._perception.catalog
        winners = self._votes.argmax(1).numpy() if len(self._votes) else np.zeros(1, np.int64)
        ids = catalog.ids.astype(catalog.label_dtype(self._config.unlabelled_id))
        while self.waiting:
            frame = self.waiting.popleft()
            if isinstance(frame, LabelledOutput):
                yield frame
                continue
            start = time.perf_counter()
            classes = np.where(frame.masklets >= 0, winners[frame.masklets], frame.classes)
            height, width = frame.size
            upsampled = cv2.resize(
                classes.astype(np.int16), (width, height), interpolation=cv2.INTER_NEAREST
            )
            yield LabelledOutput(ids[upsampled], frame.seconds + time.perf_counter() - start)

    def _find(self, frame: Frame) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
        """Class and masklet of each pixel, as in `_Labelled`; adds to the votes."""
        perception = self._perception
        height, width = frame.image.shape[:2]
        with perception.arithmetic():
            flow = self._motion.follow(frame.image)
            dense = perception.predict(frame)
            seen = features.extract(perception, frame, self._config.mode, dense)
            size = label_size(perception, (height, width), seen.log_dense)
            classes = bilinear(seen.log_dense, size).argmax(0)
            owner = torch.full_like(classes, -1)
            if self._masklets is None:
                self._masklets, tracked = self._begin(seen)
            else:
                tracked = self._masklets.advance(seen.image, flow=flow)
            if tracked.slots:
                masks = bilinear(tracked.masks, size)
                self._votes += _count(masks > 0, classes, len(perception.catalog)).cpu()
                owner = owners(tracked.masks, size)
        return classes.short().cpu().numpy(), owner.short().cpu().numpy()

    def _begin(self, seen: Predicted) -> tuple[Masklets, Tracked]:
        """Find the masks of the first frame; they are remembered as they are."""
        perception, size = self._perception, seen.probabilities.shape[-2:]
        everywhere = torch.ones(size, dtype=torch.bool, device=perception.device)
        found = everywhere.new_zeros(0, *size)
        if self._source is not None:
            candidates = self._source.propose(seen.view(), everywhere, self._config)
            least = max(1, round(self._config.min_area * everywhere.numel()))
            found = select(candidates, everywhere, least, self._config.max_objects).masks
        self._votes = self._votes.new_zeros(len(found), len(perception.catalog))
        masklets = Masklets(perception.model.new_tracker(len(found), PRESETS["exact"]))
        if not len(found):
            return masklets, masklets.tracker.nothing()
        begun = masklets.tracker.from_masks(seen.image, list(range(len(found))), found)
        masklets.begin(seen.image, begun)
        return masklets, begun


def _count(masks: Tensor, classes: Tensor, count: int) -> Tensor:
    """(N, count) int64 pixels of each class, of (h, w) classes, in (N, h, w) masks."""
    # Sums of ones in float32 are exact below 2^24 pixels.
    of_class = F.one_hot(classes.flatten(), count).float()
    return (masks.flatten(1).float() @ of_class).long()
