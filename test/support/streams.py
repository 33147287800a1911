"""Small streams for tests: one camera with few objects, and what is to be seen on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.types import Frame, SemanticFrame, TrackedObject, TrackState, instance_value

HEIGHT, WIDTH = 96, 128
STAGES = ["encode", "track", "discover", "classify", "fuse"]


def small_config(**options: object) -> PipelineConfig:
    """Few objects, of any class, in any scene, no search before its time, and a look at every
    frame, whose stamps count frames."""
    defaults = {
        "device": "cpu",
        "carry": "off",
        "image_size": 256,
        "discovery": "regions",
        "max_objects": 4,
        "min_unexplained": 1.0,
        "min_class_score": 0.0,
    }
    return PipelineConfig.from_mapping(defaults | options)


def pipeline(**options: object) -> VssPipeline:
    """A pipeline of a `small_config`."""
    return open_pipeline(small_config(**options))


def run(pipe: VssPipeline, images: npt.NDArray[np.uint8], start: int = 1) -> list[SemanticFrame]:
    return [pipe.process(Frame(image, start + i)) for i, image in enumerate(images)]


def box(x0: int, y0: int, x1: int, y1: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def ids(result: SemanticFrame) -> list[int]:
    return [o.track_id for o in result.objects]


def find(result: SemanticFrame, track_id: int) -> TrackedObject:
    return next(o for o in result.objects if o.track_id == track_id)


def assert_consistent(result: SemanticFrame, image: np.ndarray, pipe: VssPipeline) -> None:
    """Everything that is true of every answer."""
    size = image.shape[:2]
    label_dtype = pipe.catalog.label_dtype(pipe.config.unlabelled_id)
    assert result.label_image.shape == size and result.label_image.dtype == label_dtype
    assert result.confidence_image.shape == size and result.confidence_image.dtype == np.uint8
    assert result.instance_image.shape == size and result.instance_image.dtype == np.uint16
    known = {*pipe.catalog.ids.tolist(), pipe.config.unlabelled_id}
    assert set(np.unique(result.label_image).tolist()) <= known
    assert result.coverage == pytest.approx((result.instance_image > 0).mean())
    assert list(result.timings_ms) == STAGES and min(result.timings_ms.values()) >= 0
    assert len(result.objects) <= pipe.config.max_objects
    assert len(set(ids(result))) == len(result.objects)
    shown = {instance_value(o.track_id) for o in result.objects if o.area}
    assert set(np.unique(result.instance_image[result.instance_image > 0]).tolist()) == shown
    names = {c.id: c.name for c in pipe.catalog.classes} | {pipe.config.unlabelled_id: ""}
    for o in result.objects:
        x, y, width, height = o.box
        assert o.mask.shape == (height, width) and o.mask.dtype == np.bool_
        whole = result.instance_image == instance_value(o.track_id)
        assert o.area == whole.sum() == o.mask.sum()
        assert np.array_equal(o.mask, whole[y : y + height, x : x + width])
        if o.area:
            rows, columns = whole.nonzero()
            assert o.centroid == pytest.approx((columns.mean(), rows.mean()), abs=1e-3)
            edges = (o.mask[0], o.mask[-1], o.mask[:, 0], o.mask[:, -1])
            assert all(edge.any() for edge in edges), "the box is tight"
        assert o.class_name == names[o.class_id]
        assert o.class_probabilities.shape == (len(pipe.catalog),)
        assert o.class_probabilities.dtype == np.float32
        assert o.class_probabilities.sum() == pytest.approx(1, abs=1e-4)
        # Less in scenes that are not familiar.
        assert 0 <= o.class_score <= float(o.class_probabilities.max()) + 1e-6
        assert 0 <= o.predicted_iou <= 1 and 0 <= o.visibility <= 1
        assert o.state in TrackState and o.age >= 0
        assert o.frames_since_seen == 0 or not o.area


class Eyes:
    """The tracker's sight; while `shut`, no object is found on any frame."""

    def __init__(self, pipe: VssPipeline, patch: pytest.MonkeyPatch) -> None:
        self.shut = False
        step = pipe.stream.tracker.step

        def seen(features: functional.ImageFeatures, slots: list[int], *flow: Any) -> Tracked:
            tracked = step(features, slots, *flow)
            if not self.shut:
                return tracked
            return dataclasses.replace(
                tracked,
                masks=torch.full_like(tracked.masks, -1024.0),
                score=torch.full_like(tracked.score, -10.0),
            )

        patch.setattr(pipe.stream.tracker, "step", seen)


def look_down(result: SemanticFrame) -> npt.NDArray[np.uint16]:
    """The instance image on a grid of 32 x 32."""
    height, width = result.instance_image.shape
    rows, columns = (np.arange(32) + 0.5)[:, None] / 32, (np.arange(32) + 0.5) / 32
    where = (rows * height).astype(int), (columns * width).astype(int)
    return result.instance_image[where]


def assert_same(one: SemanticFrame, other: SemanticFrame) -> None:
    """Two answers are equal byte by byte, but for the time they took."""
    for field in dataclasses.fields(SemanticFrame):
        if field.name not in ("timings_ms", "objects"):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert one.label_image.dtype == other.label_image.dtype
    assert ids(one) == ids(other)
    for a, b in zip(one.objects, other.objects, strict=True):
        for field in dataclasses.fields(TrackedObject):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
