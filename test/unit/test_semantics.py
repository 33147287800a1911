"""From features to classes: dense head, mask classifier, posterior, fusion, and their file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog
from sam2vss_ros.semantics.classifier import (
    GEOMETRY,
    MaskClassifier,
    geometry,
    pool_features,
)
from sam2vss_ros.semantics.fusion import fuse, owners
from sam2vss_ros.semantics.model import (
    EMBEDDED,
    SemanticModel,
    load_semantics,
    new_semantics,
    save_semantics,
)
from sam2vss_ros.semantics.pointing import region_at
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.semantics.segmenter import DenseHead, label_of
from sam2vss_ros.stream.smoothing import EvidenceMemory
from sam2vss_ros.types import Prompt

CPU = torch.device("cpu")


def box(x0: int, y0: int, x1: int, y1: int, side: int = 16) -> Tensor:
    """(side, side) bool mask."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


# -- pooling, geometry, appearance


def test_pooling_is_the_mean_inside_the_mask_at_every_level() -> None:
    torch.manual_seed(0)
    pyramid = (torch.randn(1, 2, 16, 16), torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4))
    hidden = torch.randn(1, 3, 16, 16)
    masks = torch.stack([box(0, 4, 8, 12), box(15, 15, 16, 16)])
    pooled = pool_features((*pyramid, hidden), masks)
    assert pooled.shape == (2, 3 * 2 + 3)
    expected = [
        pyramid[0][0, :, 4:12, 0:8].mean((1, 2)),
        pyramid[1][0, :, 2:6, 0:4].mean((1, 2)),
        pyramid[2][0, :, 1:3, 0:2].mean((1, 2)),
        hidden[0, :, 4:12, 0:8].mean((1, 2)),
    ]
    torch.testing.assert_close(pooled[0], torch.cat(expected))
    # A single pixel is smaller than the coarse cells: it takes the cell it lies in.
    torch.testing.assert_close(pooled[1, 4:6], pyramid[2][0, :, 3, 3])
    assert pool_features((*pyramid, hidden), masks[:0]).shape == (0, 9)


def test_an_empty_mask_pools_to_zero() -> None:
    pooled = pool_features((torch.ones(1, 2, 8, 8),) * 3, torch.zeros(1, 8, 8))
    assert pooled.tolist() == [[0.0] * 6]


def test_geometry_of_known_masks() -> None:
    whole, corner = geometry(torch.stack([box(0, 0, 16, 16), box(8, 0, 16, 4)]))
    assert len(whole) == GEOMETRY
    x, y, spread_x, spread_y, width, height, fill, size = whole.tolist()
    assert (x, y) == pytest.approx((0, 0), abs=1e-6)
    assert spread_x == pytest.approx(spread_y) and 0.5 < spread_x < 0.65  # uniform: 1 / sqrt(3)
    assert (width, height, fill, size) == pytest.approx((1, 1, 1, 1))
    x, y, spread_x, spread_y, width, height, fill, size = corner.tolist()
    assert x > 0.4 and y < -0.7 and spread_x > spread_y
    assert (width, height, fill) == pytest.approx((0.5, 0.25, 1)) and 0 < size < 1


def test_geometry_stays_in_range_for_any_mask() -> None:
    torch.manual_seed(1)
    masks = torch.rand(50, 16, 16) < torch.linspace(0, 1, 50)[:, None, None]
    values = geometry(masks)
    assert values.shape == (50, GEOMETRY) and values.isfinite().all()
    assert values.abs().max() <= 1 + 1e-5


# -- posterior


def test_a_posterior_starts_even_and_sums_to_one() -> None:
    posterior = ClassPosterior(4)
    torch.testing.assert_close(posterior.probabilities(), torch.full((4,), 0.25))
    for seed in range(5):
        torch.manual_seed(seed)
        posterior.add(torch.randn(4).softmax(0), 0.9)
        assert posterior.probabilities().sum() == pytest.approx(1, abs=1e-5)


def test_early_evidence_weighs_equally_then_the_past_fades() -> None:
    a, b = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    posterior = ClassPosterior(2)
    posterior.add(a, 0.9)
    torch.testing.assert_close(posterior.probabilities(), a)
    posterior.add(b, 0.9)
    torch.testing.assert_close(posterior.probabilities(), torch.tensor([0.5, 0.5]))
    for _ in range(20):
        posterior.add(a, 0.9)
    assert posterior.probabilities()[0] > 0.8
    steady = ClassPosterior(2)
    for _ in range(30):
        steady.add(a, 0.9)
    steady.add(b, 0.9)
    assert steady.probabilities()[0] > 0.75, "one odd frame does not change it"
    forgetful = ClassPosterior(2)
    forgetful.add(a, 0.0)
    forgetful.add(b, 0.0)
    torch.testing.assert_close(forgetful.probabilities(), b)


def test_a_class_that_the_user_gave_stays() -> None:
    posterior = ClassPosterior(3, fixed_class=1)
    posterior.add(torch.tensor([0.98, 0.01, 0.01]), 0.5)
    assert posterior.probabilities().tolist() == [0, 1, 0]


# -- networks


def test_classifier_reads_the_mask_and_what_is_round_it() -> None:
    torch.manual_seed(0)
    classifier = MaskClassifier(hidden=4, classes=5).eval()
    hidden = torch.randn(1, 4, 32, 32)
    masks = torch.stack([box(8, 8, 20, 20, side=32), box(0, 0, 32, 32, side=32)])
    with torch.inference_mode():
        plain = classifier(hidden, masks)
        assert plain.shape == (2, 5) and classifier(hidden, masks[:0]).shape == (0, 5)

        def change(where: Tensor) -> Tensor:
            changed = hidden.clone()
            changed[0, :, where] += torch.tensor([1.0, -2.0, 0.5, 3.0])[:, None]
            return (classifier(changed, masks)[0] - plain[0]).abs().max()

        ring = box(6, 6, 22, 22, side=32) & ~masks[0]
        assert change(masks[0]) > 1e-3 and change(ring) > 1e-3
        assert change(~box(6, 6, 22, 22, side=32)) < 1e-5, "what is far off does not count"
        # A tracker's masks may be finer than the features.
        finer = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
        torch.testing.assert_close(classifier(hidden, finer), plain, atol=0.01, rtol=0.01)


def test_dense_head_answers_at_quarter_resolution() -> None:
    head = DenseHead(8, classes=5, width=16).eval()
    pyramid = (torch.randn(1, 8, 32, 32), torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8))
    with torch.inference_mode():
        dense = head(pyramid)
    assert dense.logits.shape == (1, 5, 32, 32) and dense.hidden.shape == (1, 16, 32, 32)


def test_labels_are_those_of_upsampled_logits() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1, :, 2:] = 5
    labels = label_of(logits, (6, 8))
    assert labels.shape == (6, 8) and (labels[:, :3] == 0).all() and (labels[:, 5:] == 1).all()


# -- fusion: 8 x 8 pixels, three classes, a dense prediction of class 0 left and 1 right

SIZE = (8, 8)


def dense_halves(sure: float = 0.8) -> Tensor:
    probabilities = torch.full((3, 8, 8), (1 - sure) / 2)
    probabilities[0, :, :4] = sure
    probabilities[1, :, 4:] = sure
    return probabilities.log()


def logits(*masks: Tensor) -> Tensor:
    return torch.stack([m.float() * 10 - 5 for m in masks]) if masks else torch.zeros(0, 8, 8)


MODES = ("refine", "classify", "fused")


@pytest.mark.parametrize("mode", MODES)
def test_without_objects_the_dense_prediction_stands(mode: str) -> None:
    fused = fuse(mode, dense_halves(), logits(), torch.zeros(0, 3), SIZE)
    assert (fused.classes[:, :4] == 0).all() and (fused.classes[:, 4:] == 1).all()
    torch.testing.assert_close(fused.confidence, torch.full(SIZE, 0.8))
    assert (fused.owner == -1).all()
    assert fused.classes.dtype == torch.int64 and fused.owner.dtype == torch.int64


@pytest.mark.parametrize("mode", MODES)
def test_an_object_changes_nothing_outside_its_mask(mode: str) -> None:
    inside = box(2, 2, 8, 6, side=8)
    posteriors = torch.tensor([[0.0, 0.0, 1.0]])
    plain = fuse(mode, dense_halves(), logits(), torch.zeros(0, 3), SIZE)
    fused = fuse(mode, dense_halves(), logits(inside), posteriors, SIZE)
    assert torch.equal(fused.owner == 0, inside) and (fused.owner[~inside] == -1).all()
    assert torch.equal(fused.classes[~inside], plain.classes[~inside])
    torch.testing.assert_close(fused.confidence[~inside], plain.confidence[~inside])


def dense_with_a_doubtful_corner() -> Tensor:
    """Class 1 for sure, but for 4 x 4 of 16 x 16 pixels that are rather class 0."""
    probabilities = torch.tensor([0.05, 0.9, 0.05])[:, None, None].repeat(1, 16, 16)
    probabilities[:, :4, :4] = torch.tensor([0.5, 0.4, 0.1])[:, None, None]
    return probabilities.log()


def test_a_pure_mask_overrules_pixels_that_are_not_sure() -> None:
    dense, inside = dense_with_a_doubtful_corner(), box(0, 0, 16, 16)
    posterior = torch.tensor([[0.0, 0.0, 1.0]])  # what the classifier says does not count
    fused = fuse("refine", dense, logits(inside), posterior, (16, 16))
    assert (fused.classes == 1).all(), "15 of 16 pixels are of class 1"
    torch.testing.assert_close(fused.confidence[0, 0].item(), 15 / 16)
    mixed = fuse("refine", dense, logits(box(0, 0, 8, 8)), posterior, (16, 16))
    assert (mixed.classes[:4, :4] == 0).all(), "a mask that is a quarter another thing is silent"


def test_classify_takes_the_objects_own_class() -> None:
    dense, inside = dense_with_a_doubtful_corner(), box(0, 0, 16, 16)
    fused = fuse("classify", dense, logits(inside), torch.tensor([[0.0, 0.05, 0.95]]), (16, 16))
    assert (fused.classes[:4, :4] == 2).all() and (fused.classes[4:] == 1).all()
    torch.testing.assert_close(fused.confidence[:4, :4], torch.full((4, 4), 0.95))
    doubtful = fuse("classify", dense, logits(inside), torch.tensor([[0.1, 0.1, 0.8]]), (16, 16))
    assert (doubtful.classes[:4, :4] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_no_mask_speaks_for_what_it_is_too_coarse_for(mode: str) -> None:
    """A pole of one pixel by three in a wall that a mask covers keeps its label."""
    dense = torch.tensor([0.05, 0.9, 0.05])[:, None, None].repeat(1, 16, 16)
    dense[:, 5:8, 5] = torch.tensor([0.5, 0.4, 0.1])[:, None]
    posterior = torch.tensor([[0.0, 1.0, 0.0]])
    fused = fuse(mode, dense.log(), logits(box(0, 0, 16, 16)), posterior, (16, 16))
    pole = box(5, 5, 6, 8)
    assert (fused.classes[pole] == 0).all() and (fused.classes[~pole] == 1).all()
    assert (fused.owner == 0).all()
    larger = dense.clone()
    larger[:, 5:8, 5:8] = torch.tensor([0.5, 0.4, 0.1])[:, None, None]
    fused = fuse(mode, larger.log(), logits(box(0, 0, 16, 16)), posterior, (16, 16))
    assert (fused.classes == 1).all()


def test_fused_weighs_both() -> None:
    inside = box(2, 2, 8, 6, side=8)
    posterior = torch.tensor([[0.02, 0.02, 0.96]])
    unsure = fuse("fused", dense_halves(0.5), logits(inside), posterior, SIZE)
    assert (unsure.classes[inside] == 2).all()
    sure = fuse("fused", dense_halves(0.9), logits(inside), posterior, SIZE)
    assert (sure.classes[inside] != 2).all()
    even = fuse("fused", dense_halves(), logits(inside), torch.full((1, 3), 1 / 3), SIZE)
    assert (even.classes[:, :4] == 0).all() and (even.classes[:, 4:] == 1).all()
    torch.testing.assert_close(even.confidence, torch.full(SIZE, 0.8))


def test_the_purer_an_object_the_more_it_counts() -> None:
    """On pixels that are 80 % of class 0, objects that are rather of class 2 and not of class 1."""

    def left(*posterior: float) -> float:
        inside, row = box(2, 2, 8, 6, side=8), torch.tensor([posterior])
        fused = fuse("fused", dense_halves(), logits(inside), row, SIZE)
        assert fused.classes[3, 3] == 0
        return fused.confidence[3, 3].item()

    mixed, pure = left(0.3, 0.0, 0.7), left(0.0, 0.0, 1.0)
    # The mixed one weighs 0.17: 0.80, 0.10 and 0.10 become 0.658, 0.051 and 0.095, in all 0.804.
    assert mixed == pytest.approx(0.819, abs=1e-3)
    # The pure one weighs 0.5: 0.113, 0.014 and 0.101, in all 0.228.
    assert pure == pytest.approx(0.496, abs=2e-3)


# -- evidence over time: a textured picture, 120 x 160 pixels, that moves


def picture(shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    grains = rng.integers(0, 256, (30, 60, 3), dtype=np.uint8)
    wide = cv2.resize(grains, (320, 120), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(wide[:, 80 - shift : 240 - shift])


def halves_at(column: int, sure: float = 0.9) -> Tensor:
    """(2, 30, 40) log probabilities of class 0 left of a column and 1 right of it."""
    first = torch.full((30, 40), 1 - sure)
    first[:, :column] = sure
    return torch.stack([first, 1 - first]).log()


def test_evidence_of_a_still_picture_is_averaged() -> None:
    memory = EvidenceMemory()
    first = memory.add(picture(), halves_at(20))
    torch.testing.assert_close(first, halves_at(20))
    second = memory.add(picture(), halves_at(20, 0.4))
    # The past counts as four frames of 0.9 and 0.1, the present as one of 0.4 and 0.6.
    left, right = (0.9**4 * 0.4) ** 0.2, (0.1**4 * 0.6) ** 0.2
    shares = second[:, 2:-2, 2:-2].exp()
    assert shares[0, :, :16].numpy() == pytest.approx(left, abs=0.02)
    assert shares[1, :, :16].numpy() == pytest.approx(right, abs=0.02)
    assert shares[0, :, 20:].numpy() == pytest.approx(right, abs=0.02)
    assert (second.argmax(0) == halves_at(20).argmax(0)).all(), "one odd frame does not change it"
    memory.clear()
    torch.testing.assert_close(memory.add(picture(), halves_at(20, 0.4)), halves_at(20, 0.4))


def test_evidence_moves_along_with_the_picture() -> None:
    memory = EvidenceMemory()
    memory.add(picture(), halves_at(20))
    moved = memory.add(picture(8), halves_at(20, 0.5))  # 8 pixels are 2 cells
    assert (moved[:, 5:-5, 5:21].argmax(0) == 0).all()
    assert (moved[:, 5:-5, 23:-5].argmax(0) == 1).all()


def test_evidence_of_another_picture_is_not_believed() -> None:
    memory = EvidenceMemory()
    memory.add(np.bitwise_not(picture()), halves_at(20))
    now = memory.add(picture(), halves_at(20, 0.2))
    assert (now.argmax(0) == halves_at(20, 0.2).argmax(0)).float().mean() > 0.7
    small = torch.zeros(2, 10, 10).log_softmax(0)
    assert torch.equal(memory.add(picture(), small), small), "another network's grid"
    turned = np.ascontiguousarray(picture().transpose(1, 0, 2))
    assert torch.equal(memory.add(turned, small), small), "another image size"


def test_a_pixel_belongs_to_the_strongest_mask_above_zero() -> None:
    first, second = box(0, 0, 6, 8, side=8).float() * 4 - 2, box(4, 0, 8, 8, side=8).float() * 6 - 3
    first[0, 0] = 0.0
    owner = owners(torch.stack([first, second]))
    assert owner[0, 0] == -1, "0 is not inside"
    assert (owner[1:, :4] == 0).all() and (owner[:, 4:] == 1).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(8, 8), (5, 11), (32, 24)])
def test_fusion_of_anything_stays_in_range(mode: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    dense = (5 * torch.randn(3, 8, 8)).log_softmax(0)
    masks, posteriors = 8 * torch.randn(4, 8, 8), (5 * torch.randn(4, 3)).softmax(1)
    masks[3] = -1024.0  # an object that owns no pixel
    posteriors[0] = torch.tensor([0.0, 1.0, 0.0])
    fused = fuse(mode, dense, masks, posteriors, size)
    assert all(image.shape == size for image in fused)
    assert fused.confidence.isfinite().all()
    assert fused.confidence.min() >= 0 and fused.confidence.max() <= 1 + 1e-6
    assert set(fused.classes.unique().tolist()) <= {0, 1, 2}
    assert set(fused.owner.unique().tolist()) <= {-1, 0, 1, 2}


# -- pointing: what a point or a box means on the dense prediction

CLASSES = np.zeros((16, 16), np.int64)
CLASSES[10:] = 1
CLASSES[2:6, 2:6] = 2
CLASSES[2:6, 9:13] = 2


def pointed(*points: tuple[float, float, int]) -> np.ndarray:
    xy = np.array([p[:2] for p in points], np.float32)
    labels = np.array([p[2] for p in points], np.int32)
    return region_at(Prompt(points=xy, point_labels=labels), CLASSES, (32, 64))


def test_a_point_means_the_region_it_lies_on() -> None:
    """The image has 64 x 32 pixels: a cell has 4 x 2."""
    assert np.array_equal(pointed((12, 8, 1)), box(2, 2, 6, 6).numpy())
    assert np.array_equal(pointed((64, 32, 1)), CLASSES == 1), "the corner belongs to the image"


def test_points_add_regions_and_take_them_away() -> None:
    both = box(2, 2, 6, 6).numpy() | box(9, 2, 13, 6).numpy()
    assert np.array_equal(pointed((12, 8, 1), (40, 8, 1)), both)
    assert np.array_equal(pointed((12, 8, 1), (40, 8, 1), (41, 9, 0)), box(2, 2, 6, 6).numpy())
    assert np.array_equal(pointed((12, 8, 1), (13, 9, 0)), box(2, 2, 6, 6).numpy())


def test_a_box_means_the_region_that_fits_it_and_else_itself() -> None:
    fits = region_at(Prompt(box=(33, 3, 55, 13)), CLASSES, (32, 64))
    assert np.array_equal(fits, box(9, 2, 13, 6).numpy())
    nothing = region_at(Prompt(box=(2, 16, 8, 18)), CLASSES, (32, 64))
    assert np.array_equal(nothing, box(0, 8, 2, 9).numpy())
    tiny = region_at(Prompt(box=(63.9, 31.9, 64, 32)), CLASSES, (32, 64))
    assert np.array_equal(tiny, box(15, 15, 16, 16).numpy())


# -- the file


@pytest.fixture
def untrained() -> SemanticModel:
    torch.manual_seed(3)
    classes = tuple(SemanticClass(10 * i, f"c{i}", (i, 0, 0), i == 2) for i in range(3))
    model = new_semantics(ClassCatalog("mine", classes, 255), "nano", 128, channels=16, width=16)
    model.head.eval()
    model.classifier.eval()
    return model


def test_semantics_round_trip(untrained: SemanticModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_semantics(untrained, path, {"steps": 3})
    loaded = load_semantics(str(path), CPU)
    assert loaded.catalog == untrained.catalog
    assert (loaded.backbone, loaded.image_size) == ("nano", 128)
    for name in ("head", "classifier"):
        before, after = getattr(untrained, name), getattr(loaded, name)
        assert not after.training and not any(p.requires_grad for p in after.parameters())
        for key, value in before.state_dict().items():
            torch.testing.assert_close(
                after.state_dict()[key], value.half().float(), rtol=0, atol=0
            )
    pyramid = (torch.randn(1, 16, 8, 8), torch.randn(1, 16, 4, 4), torch.randn(1, 16, 2, 2))
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded.head(pyramid).logits, untrained.head(pyramid).logits, atol=0.02, rtol=0.02
        )


def test_the_embedded_semantics_know_camvid_and_read_nano() -> None:
    model = load_semantics("nano", CPU)
    assert model.catalog == load_catalog("camvid") and model.backbone == "nano"
    network = build_nano(model.image_size)
    assert model.head.fine[0].in_channels == network.hidden_dim
    assert model.head.classify.out_channels == len(model.catalog)
    assert EMBEDDED.stat().st_size < 5_000_000


def test_missing_semantics_say_how_to_get_some(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="sam2vss train semantics.*'nano'") as caught:
            load_semantics(str(path), CPU)
        assert str(path) in str(caught.value)


def spoiled(original: Path, how: str) -> None:
    data = original.read_bytes()
    if how == "truncated":
        original.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        original.write_bytes(b"")
    elif how == "no safetensors":
        original.write_bytes(b"PK\x03\x04" + bytes(1000))
    elif how == "foreign":
        save_file({"weight": torch.zeros(3)}, original)
    elif how == "other metadata":
        save_file({"weight": torch.zeros(3)}, original, {"sam2vss": json.dumps({"width": 1})})
    elif how == "no json":
        save_file({"weight": torch.zeros(3)}, original, {"sam2vss": "{"})


@pytest.mark.parametrize(
    "how", ["truncated", "empty", "no safetensors", "foreign", "other metadata", "no json"]
)
def test_what_is_no_semantics_file_is_named(
    how: str, untrained: SemanticModel, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    save_semantics(untrained, path, {})
    spoiled(path, how)
    with pytest.raises(ValueError, match="is not a semantics file") as caught:
        load_semantics(str(path), CPU)
    assert str(path) in str(caught.value)


def test_tensors_of_another_shape_are_refused(untrained: SemanticModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    untrained.head.classify = torch.nn.Conv2d(16, 4, 1)  # one class more than the catalog has
    save_semantics(untrained, path, {})
    with pytest.raises(ValueError, match="is not a semantics file"):
        load_semantics(str(path), CPU)
