"""Every figure against independently measured values on CamVid, and the rules behind them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sam2vss_ros.evaluation.metrics import ConfusionMatrix, FrameScore, Scoreboard
from sam2vss_ros.evaluation.stq import SegmentationAndTrackingQuality
from sam2vss_ros.io.image_folders import list_images
from sam2vss_ros.io.label_files import read_labels
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog

VOID, CAR = 11, 8


@pytest.fixture(scope="module")
def camvid(shared: Path) -> np.ndarray:
    """(101, 360, 480) uint8: the labels of CamVid's val clip."""
    folder = shared / "data" / "camvid" / "val" / "labels"
    if not folder.is_dir():
        pytest.skip(f"needs CamVid's val labels at {folder} (set SAM2VSS_SHARED)")
    return np.stack([read_labels(path) for path in list_images(folder)])


def predict(name: str, truth: np.ndarray) -> np.ndarray:
    """A prediction made from the (T, H, W) ground truth."""
    if name.startswith("roll"):
        return np.roll(truth, int(name.split()[1]), axis=2)
    return {
        "truth": truth,
        "hold 5": truth[np.arange(len(truth)) // 5 * 5],
        "one late": np.concatenate([truth[:1], truth[:-1]]),
        "all sky": np.zeros_like(truth),
    }[name]


def no_void(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """VSPW's evaluator knows no unlabelled pixels: where the truth is a class, sky instead."""
    return np.where((truth != VOID) & (prediction == VOID), 0, prediction)


def score(truth: np.ndarray, prediction: np.ndarray) -> tuple[dict, list[FrameScore]]:
    board = Scoreboard(load_catalog("camvid"))
    board.start_stream()
    frames = [board.update(t, p) for t, p in zip(truth, prediction, strict=True)]
    return board.as_json(), frames


# Measured with VSPW's evaluator (scikit-learn's jaccard_score agrees) and video consistency
# script, Boundary IoU's own erosion of masks per class, and OpenCV's ellipse for the trimap.
COLUMNS = ["miou", "fwiou", "pixel_accuracy", "trimap_miou"]
TABLE = {
    "truth": (100, 100, 100, 100),
    "roll 2": (81.758, 93.837, 96.661, 69.812),
    "roll 5": (68.360, 87.732, 92.996, 47.423),
    "hold 5": (66.983, 87.549, 92.886, 52.865),
    "one late": (73.289, 90.163, 94.541, 56.504),
    "all sky": (0.849, 0.872, 9.336, None),
}
VOID_COLUMNS = ["mvc8", "mvc16", "mvc8_void_out", "mvc16_void_out", "mbiou", "mbiou_void_out"]
VOID_COLUMNS += ["per_frame"]
VOID_TABLE = {
    "truth": (100, 100, 100, 100, 100, 100, 100),
    "roll 2": (97.165, 96.925, 97.235, 96.949, 75.854, 76.670, 74.413),
    "roll 5": (94.337, 93.926, 94.460, 93.975, 57.193, 58.100, 55.955),
    "hold 5": (96.470, 97.422, 96.537, 97.454, 55.736, 56.434, 60.959),
    "one late": (97.711, 98.333, 97.765, 98.351, 61.831, 62.636, 64.286),
    "all sky": (100, 100, 100, 100, 0.776, 0.781, 0.775),
}


def assert_percent(found: dict, columns: list[str], expected: tuple[float | None, ...]) -> None:
    """To the third digit behind the point."""
    percent = {c: 100 * found[c] for c, e in zip(columns, expected, strict=True) if e is not None}
    wanted = {c: e for c, e in zip(columns, expected, strict=True) if e is not None}
    assert percent == pytest.approx(wanted, abs=5.01e-4)


@pytest.mark.parametrize("name", TABLE)
def test_figures_of_pixels_agree_with_measured_values(camvid: np.ndarray, name: str) -> None:
    found, _ = score(camvid, no_void(camvid, predict(name, camvid)))
    assert_percent(found, COLUMNS, TABLE[name])
    assert found["foreign_pixels"] == {}


@pytest.mark.parametrize("name", VOID_TABLE)
def test_figures_of_boundaries_and_time_agree(camvid: np.ndarray, name: str) -> None:
    found, frames = score(camvid, predict(name, camvid))
    found["per_frame"] = np.mean([frame.mbiou for frame in frames])
    assert_percent(found, VOID_COLUMNS, VOID_TABLE[name])
    assert found["boundary_px"] == {"480x360": 12}


def test_constant_nonsense_is_steady_but_not_strictly(camvid: np.ndarray) -> None:
    """All sky: the strict figure is the share of sky among what is constant."""
    found, _ = score(camvid, predict("all sky", camvid))
    windows = np.lib.stride_tricks.sliding_window_view(camvid, 8, axis=0)[:-1]
    constant = (windows == windows[..., :1]).all(-1) & (windows[..., 0] != VOID)
    sky = [(c & (w[..., 0] == 0)).sum() / c.sum() for c, w in zip(constant, windows, strict=True)]
    assert found["strict_vc8"] == pytest.approx(np.mean(sky))


@pytest.mark.parametrize(
    ("name", "switch", "expected"),
    [
        ("roll 2", False, (82.640, 87.205, 78.313)),
        ("roll 2", True, (70.735, 63.890, 78.313)),
        ("truth", True, (84.597, 71.566, 100)),
    ],
)
def test_stq_agrees_with_the_authors_code(
    camvid: np.ndarray, name: str, switch: bool, expected: tuple[float, ...]
) -> None:
    """All cars of 16 frames as one object, whose predicted id may change in the middle."""
    given = load_catalog("camvid")
    cars = [SemanticClass(c.id, c.name, c.color, c.id == CAR) for c in given.classes]
    quality = SegmentationAndTrackingQuality(ClassCatalog("cars", tuple(cars), VOID))
    truth = camvid[:16]
    prediction = no_void(truth, predict(name, camvid)[:16])
    for i, (t, p) in enumerate(zip(truth, prediction, strict=True)):
        quality.update(t, t == CAR, p, (p == CAR) * (2 if switch and i >= 8 else 1))
    assert_percent(quality.as_json(), ["stq", "aq", "sq"], expected)


def test_unlabelled_is_a_miss_and_no_false_alarm(camvid: np.ndarray) -> None:
    matrix = ConfusionMatrix(load_catalog("camvid"))
    matrix.update(camvid.reshape(-1, 480), predict("roll 2", camvid).reshape(-1, 480))
    assert 100 * matrix.miou() == pytest.approx(82.038, abs=5.01e-4)


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
    assert matrix.per_class_accuracy()[:2].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert matrix.mean_accuracy() == pytest.approx(7 / 12)
    assert matrix.fwiou() == pytest.approx(3 / 5 * 2 / 4 + 2 / 5 * 1 / 2)


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
    assert np.isnan([matrix.miou(), matrix.fwiou(), matrix.pixel_accuracy()]).all()
    assert np.isnan(matrix.mean_accuracy())


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        ConfusionMatrix(catalog("one", road=1)).update(
            np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)
        )


def test_more_classes_than_8_bits_hold() -> None:
    """300 classes, each a stripe of three rows, half of them taken for the next class."""
    many = catalog("many", **{f"class {i}": i for i in range(100, 400)})
    truth = np.repeat(np.arange(100, 400), 3)[:, None].repeat(10, 1).astype(np.uint16)
    prediction = truth.copy()
    prediction[:, 5:] = np.roll(truth, 3, axis=0)[:, 5:]
    board = Scoreboard(many)
    score = board.update(truth, prediction)
    assert score.miou == pytest.approx(1 / 3) == board.matrix.miou()
    assert score.pixel_accuracy == 0.5
    assert board.as_json()["mbiou"] == pytest.approx(1 / 3)  # no stripe has an inside


def two_classes() -> Scoreboard:
    return Scoreboard(catalog("two", left=1, right=2))


def test_a_frame_has_its_own_figures() -> None:
    board = two_classes()
    truth = np.full((20, 20), 1, np.uint8)
    truth[:, 10:] = 2
    right, wrong = board.update(truth, truth), board.update(truth, 3 - truth)
    assert (right.miou, right.pixel_accuracy, right.mbiou, right.trimap_miou) == (1, 1, 1, 1)
    assert (wrong.miou, wrong.pixel_accuracy, wrong.mbiou, wrong.trimap_miou) == (0, 0, 0, 0)
    assert np.isnan(right.flicker) and wrong.flicker == 1
    assert np.isnan(right.flow_consistency)
    assert board.as_json()["miou"] == pytest.approx(1 / 3)


def test_frames_without_labels_are_not_scored_and_end_a_clip() -> None:
    """Only predictions differ in the second half; no flicker is seen across the gap."""
    board = two_classes()
    truth, other = np.full((20, 20), 1, np.uint8), np.full((20, 20), 2, np.uint8)
    board.start_stream()
    board.update(truth, truth)
    board.update(truth, truth)
    unlabelled = board.update(None, truth)
    assert np.isnan(list(vars(unlabelled).values())).all()
    board.update(truth, other)
    board.update(truth, other)
    found = board.as_json()
    assert found["pixel_accuracy"] == 0.5 and found["flicker"] == 0


def test_nothing_scored_is_plain_json() -> None:
    found = two_classes().as_json()
    json.dumps(found, allow_nan=False)
    assert {found[k] for k in ("miou", "mbiou", "mvc8", "strict_vc16", "flow_consistency")} == {
        None
    }
    assert found["per_class_iou"] == {"left": None, "right": None}


def test_every_figure_has_a_rule() -> None:
    found = two_classes().as_json()
    known = set(found["rules"]) | {"foreign_pixels", "boundary_px", "rules"}
    known |= {"per_class_iou", "per_class_accuracy", "per_class_biou"}
    for key in found:
        stem = key.replace("8", "").replace("16", "")
        assert stem in known, key


def test_memory_does_not_grow_with_frames() -> None:
    random = np.random.default_rng(0)
    board = two_classes()

    def run(frames: int) -> int:
        for _ in range(frames):
            labels, prediction = random.integers(1, 3, (2, 64, 64), np.uint8)
            board.update(labels, prediction, random.integers(0, 255, (64, 64, 3), np.uint8))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert run(200) - run(40) < 64 * 64
    finally:
        tracemalloc.stop()
