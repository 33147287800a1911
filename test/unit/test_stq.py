"""STQ by hand; test_metrics.py holds the agreement with its authors' code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam2vss_ros.evaluation.stq import SegmentationAndTrackingQuality
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass

ROAD, CAR, VAN, VOID = 1, 2, 3, 9


@pytest.fixture
def quality() -> SegmentationAndTrackingQuality:
    classes = tuple(
        SemanticClass(id_, name, (0, 0, 0), thing)
        for id_, name, thing in ((ROAD, "road", False), (CAR, "car", True), (VAN, "van", True))
    )
    return SegmentationAndTrackingQuality(ClassCatalog("street", classes, VOID))


def update(quality: SegmentationAndTrackingQuality, *rows: list[int]) -> None:
    """Labels, ids, prediction and predicted ids of a frame that is one row of pixels."""
    quality.update(*(np.array([row], np.uint16) for row in rows))


def test_an_id_that_changes_halfway(quality: SegmentationAndTrackingQuality) -> None:
    """Each predicted tube covers half of the true one: 2 * 1/2 * IoU 1/2."""
    for id_ in (7, 8):
        update(quality, [ROAD, CAR, CAR], [0, 1, 1], [ROAD, CAR, CAR], [0, id_, id_])
    assert quality.aq() == pytest.approx(0.5) and quality.sq() == 1
    assert quality.stq() == pytest.approx(math.sqrt(0.5))


def test_a_class_that_changes_is_another_tube(quality: SegmentationAndTrackingQuality) -> None:
    """The id stays, so the van still covers half of the car; SQ: car 2/4, van 0."""
    update(quality, [CAR, CAR], [1, 1], [CAR, CAR], [7, 7])
    update(quality, [CAR, CAR], [1, 1], [VAN, VAN], [7, 7])
    assert quality.aq() == pytest.approx(0.5)
    assert quality.sq() == pytest.approx((2 / 4 + 0) / 2)


def test_tubes_swallowed_by_one(quality: SegmentationAndTrackingQuality) -> None:
    """Two cars of one and two pixels under one id, which also covers a pixel of road."""
    update(quality, [CAR, CAR, CAR, ROAD], [1, 2, 2, 0], [CAR] * 4, [5] * 4)
    assert quality.aq() == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_a_thing_without_an_id_is_dropped(quality: SegmentationAndTrackingQuality) -> None:
    update(quality, [CAR, CAR, CAR], [1, 1, 0], [CAR, CAR, CAR], [5, 5, 5])
    assert quality.aq() == 1


def test_what_is_predicted_on_void_makes_a_tube_larger(
    quality: SegmentationAndTrackingQuality,
) -> None:
    update(quality, [CAR, CAR, VOID], [1, 1, 0], [CAR, CAR, CAR], [5, 5, 5])
    assert quality.aq() == pytest.approx(2 / 3) and quality.sq() == 1


def test_ids_begin_anew_with_every_stream(quality: SegmentationAndTrackingQuality) -> None:
    """One true tube found, one missed: the same ids in another stream are other tubes."""
    update(quality, [CAR, CAR], [1, 1], [CAR, CAR], [5, 5])
    quality.start_stream()
    update(quality, [CAR, CAR], [1, 1], [ROAD, ROAD], [0, 0])
    assert quality.aq() == pytest.approx(1 / 2)


def test_no_objects_no_quality(quality: SegmentationAndTrackingQuality) -> None:
    assert quality.as_json()["stq"] is None
    update(quality, [ROAD], [0], [ROAD], [0])
    found = quality.as_json()
    assert (found["stq"], found["aq"], found["sq"]) == (None, None, 1)


def test_sizes_must_agree(quality: SegmentationAndTrackingQuality) -> None:
    with pytest.raises(ValueError, match=r"labels are \(1, 2\), ids \(1, 1\)"):
        update(quality, [CAR, CAR], [1], [CAR, CAR], [1, 1])
