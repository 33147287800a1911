"""Masks and dense prediction make labels: 8 x 8 pixels, three classes, class 0 left, 1 right."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.resampling import bilinear
from sam2vss_ros.semantics.fusion import fuse, owners, strongest
from squares import box

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
    doubtful = fuse("classify", dense, logits(inside), torch.tensor([[0.1, 0.15, 0.75]]), (16, 16))
    assert (doubtful.classes[:4, :4] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_sure_mask_overrules_a_doubtful_speck(mode: str) -> None:
    """A few unsure pixels inside a wall that a mask covers are wall."""
    dense = torch.tensor([0.05, 0.9, 0.05])[:, None, None].repeat(1, 16, 16)
    dense[:, 5:8, 5] = torch.tensor([0.5, 0.4, 0.1])[:, None]
    posterior = torch.tensor([[0.0, 1.0, 0.0]])
    fused = fuse(mode, dense.log(), logits(box(0, 0, 16, 16)), posterior, (16, 16))
    assert (fused.classes == 1).all() and (fused.owner == 0).all()


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


def test_a_pixel_belongs_to_the_strongest_mask_above_zero() -> None:
    first, second = box(0, 0, 6, 8, side=8).float() * 4 - 2, box(4, 0, 8, 8, side=8).float() * 6 - 3
    first[0, 0] = 0.0
    owner = owners(torch.stack([first, second]), SIZE)
    assert owner[0, 0] == -1, "0 is not inside"
    assert (owner[1:, :4] == 0).all() and (owner[:, 4:] == 1).all()


@pytest.mark.parametrize("size", [(12, 20), (24, 40), (36, 40), (17, 33), (7, 40)])
def test_masks_are_looked_at_where_they_are(size: tuple[int, int]) -> None:
    """At the edges of the image, empty, one inside another: as all of them upsampled whole."""
    torch.manual_seed(1)
    masks = torch.full((5, 12, 20), -4.0)
    masks[0, :5, :7], masks[1, 4:, 15:], masks[2, 3:9, 2:18] = 3.0, 2.0, 1.0
    masks[3, 5, 5:8] = 9.0
    masks[:4] += torch.randn(4, 12, 20) / 2
    owner = owners(masks, size)
    best, which = F.interpolate(masks[None], size, mode="bilinear")[0].max(0)
    assert torch.equal(owner, torch.where(best > 0, which, -1))
    assert set(owner.unique().tolist()) >= {-1, 0, 1, 2} and 4 not in owner
    assert torch.equal(owners(masks[:0], size), torch.full(size, -1))


@pytest.mark.parametrize("count", [1, 2, 300])
def test_of_equals_the_first_is_the_strongest(count: int) -> None:
    torch.manual_seed(2)
    maps = torch.randint(-3, 3, (count, 6, 9)).float()
    best, which = strongest(maps)
    assert torch.equal(best, maps.amax(0)) and which.dtype == torch.int64
    assert torch.equal(which, (maps == best).int().argmax(0))


def test_maps_are_upsampled_as_torch_does() -> None:
    torch.manual_seed(3)
    for size in ((12, 20), (9, 31), (3, 5), (4, 40)):
        maps = torch.randn(3, 6, 10)
        expected = F.interpolate(maps[None], size, mode="bilinear")[0]
        torch.testing.assert_close(bilinear(maps, size), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(8, 8), (5, 11), (32, 24)])
def test_fusion_of_anything_stays_in_range(mode: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    dense = (5 * torch.randn(3, 8, 8)).log_softmax(0)
    masks, posteriors = 8 * torch.randn(4, 8, 8), (5 * torch.randn(4, 3)).softmax(1)
    masks[3] = -1024.0  # an object that owns no pixel
    posteriors[0] = torch.tensor([0.0, 1.0, 0.0])
    fused = fuse(mode, dense, masks, posteriors, size)
    assert all(image.shape == size for image in fused[:3])
    assert fused.confidence.isfinite().all()
    assert fused.confidence.min() >= 0 and fused.confidence.max() <= 1 + 1e-6
    assert set(fused.classes.unique().tolist()) <= {0, 1, 2}
    assert set(fused.owner.unique().tolist()) <= {-1, 0, 1, 2}


@pytest.mark.parametrize("mode", ["network", "refine", "classify", "fused"])
def test_the_entropy_is_that_of_the_classes(mode: str) -> None:
    shares = torch.tensor([0.5, 0.25, 0.25])
    dense = shares.log()[:, None, None].expand(3, 4, 4)
    fused = fuse(mode, dense, logits(), torch.zeros(0, 3), SIZE, with_entropy=True)
    assert fused.entropy is not None
    assert fused.entropy.shape == fused.confidence.shape
    torch.testing.assert_close(fused.entropy, torch.full(SIZE, 1.0397208))
    certain = torch.tensor([0.0, -50.0, -50.0])[:, None, None].expand(3, 4, 4)
    fused = fuse(mode, certain, logits(), torch.zeros(0, 3), SIZE, with_entropy=True)
    torch.testing.assert_close(fused.entropy, torch.zeros(SIZE))
    assert fuse(mode, dense, logits(), torch.zeros(0, 3), SIZE).entropy is None
    plain = fuse(mode, dense, logits(), torch.zeros(0, 3), SIZE)
    torch.testing.assert_close(plain.confidence, torch.full(SIZE, 0.5))
