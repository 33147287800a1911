"""mIoU against independently measured values on CamVid, and the rules that tell mIoUs apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2vss_ros.evaluation.metrics import ConfusionMatrix
from sam2vss_ros.evaluation.readers import list_images, read_labels
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog

SHARED = Path(
    os.environ.get("SAM2VSS_SHARED", Path(__file__).resolve().parents[2].parent / "shared")
)
CAMVID_LABELS = SHARED / "data" / "camvid" / "val" / "labels"
VOID = 11


@pytest.fixture(scope="module")
def camvid() -> np.ndarray:
    """(101, 360, 480) uint8: the labels of CamVid's val clip."""
    if not CAMVID_LABELS.is_dir():
        pytest.skip(f"needs CamVid's val labels at {CAMVID_LABELS} (set SAM2VSS_SHARED)")
    return np.stack([read_labels(path) for path in list_images(CAMVID_LABELS)])


def shifted(pixels: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda truth: np.roll(truth, pixels, axis=2)


PREDICTORS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, float]] = {
    "truth": (lambda truth: truth, 100.0, 100.0),
    "roll 2": (shifted(2), 81.758, 96.661),
    "roll 5": (shifted(5), 68.360, 92.996),
    "hold 5": (lambda truth: truth[np.arange(len(truth)) // 5 * 5], 66.983, 92.886),
    "one late": (lambda truth: np.concatenate([truth[:1], truth[:-1]]), 73.289, 94.541),
    "all sky": (np.zeros_like, 0.849, 9.336),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_agrees_with_measured_values(camvid: np.ndarray, name: str) -> None:
    """Values of VSPW's own evaluator (and scikit-learn's jaccard_score) on the same arrays."""
    predict, miou, accuracy = PREDICTORS[name]
    prediction = predict(camvid).copy()
    prediction[(camvid != VOID) & (prediction == VOID)] = 0  # that evaluator allows no void there
    matrix = ConfusionMatrix(load_catalog("camvid"))
    for truth, predicted in zip(camvid, prediction, strict=True):
        matrix.update(truth, predicted)
    assert 100 * matrix.miou() == pytest.approx(miou, abs=6e-4)
    assert 100 * matrix.pixel_accuracy() == pytest.approx(accuracy, abs=6e-4)
    assert matrix.foreign_pixels == {}


def test_unlabelled_is_a_miss_and_no_false_alarm(camvid: np.ndarray) -> None:
    matrix = ConfusionMatrix(load_catalog("camvid"))
    matrix.update(camvid.reshape(-1, 480), shifted(2)(camvid).reshape(-1, 480))
    assert 100 * matrix.miou() == pytest.approx(82.038, abs=6e-4)


def catalog(name: str, **ids: int) -> ClassCatalog:
    classes = tuple(SemanticClass(i, n, (0, 0, 0), False) for n, i in ids.items())
    return ClassCatalog(name, classes, ignore_id=99)


def test_the_rule_by_hand() -> None:
    """Road: 2 of 3 pixels found, one false alarm on grass; sky: never in the ground truth."""
    matrix = ConfusionMatrix(catalog("three", road=1, grass=2, sky=3))
    truth = np.array([[1, 1, 1, 2, 2, 99, 99]], np.uint8)
    found = np.array([[1, 1, 3, 1, 2, 1, 3]], np.uint8)
    matrix.update(truth, found)
    iou = matrix.per_class_iou()
    assert iou[:2].tolist() == pytest.approx([2 / 4, 1 / 2]) and np.isnan(iou[2])
    assert matrix.miou() == pytest.approx(0.5)
    assert matrix.pixel_accuracy() == pytest.approx(3 / 5)


def test_catalogs_meet_by_name() -> None:
    matrix = ConfusionMatrix(catalog("truth", road=1, car=2), catalog("ours", car=500, road=7))
    matrix.update(np.array([[1, 1, 2]], np.uint8), np.array([[7, 500, 500]], np.uint16))
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="no class name in common"):
        ConfusionMatrix(catalog("truth", road=1), catalog("other", chair=1))


def test_foreign_ids_are_counted_and_not_scored() -> None:
    matrix = ConfusionMatrix(catalog("one", road=1))
    for _ in range(2):
        matrix.update(np.array([[1, 255, 255, 0, 99]], np.uint8), np.ones((1, 5), np.uint8))
    assert matrix.counts.tolist() == [[2, 0]]
    assert matrix.foreign_pixels == {0: 2, 255: 4}


def test_nothing_counted_is_not_a_number() -> None:
    matrix = ConfusionMatrix(catalog("one", road=1))
    assert np.isnan(matrix.miou()) and np.isnan(matrix.pixel_accuracy())


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        ConfusionMatrix(catalog("one", road=1)).update(
            np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)
        )
