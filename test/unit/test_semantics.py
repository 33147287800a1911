"""From features to classes: dense head, mask classifier, and their file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sam2vss_ros.affinity.model import load_affinity_model, read_trunk
from sam2vss_ros.affinity.trunk import CHANNELS, Bottleneck
from sam2vss_ros.packing import Convolution, folded
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, catalog_data
from sam2vss_ros.semantics.classifier import (
    GEOMETRY,
    MaskClassifier,
    geometry,
    pool_features,
)
from sam2vss_ros.semantics.model import (
    EMBEDDED,
    SemanticModel,
    load_semantics,
    new_semantics,
    read_semantics,
    save_semantics,
)
from sam2vss_ros.semantics.weights_file import load_weights, save_weights
from sam2vss_ros.training.calibration import score
from sam2vss_ros.training.data import load_stills
from squares import box
from street_stills import CAMVID, CPU, worn_semantics

# -- pooling and geometry


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


def random_maps(height: int, width: int, images: int = 1) -> Tensor:
    """Such as the trunk makes at stride 4 of images of that size."""
    return torch.randn(images, CHANNELS[0], height // 4, width // 4)


@pytest.mark.parametrize(("height", "width"), [(384, 512), (96, 64), (32, 512), (32, 32)])
def test_dense_head_answers_at_quarter_resolution(height: int, width: int) -> None:
    head = worn_semantics().head
    with torch.inference_mode():
        dense = head(random_maps(height, width, images=2))
    quarter = (height // 4, width // 4)
    assert dense.logits.shape == (2, 11, *quarter)
    assert dense.hidden.shape == (2, 96, *quarter)
    assert dense.middles.shape == (2, 3, *quarter)


@pytest.mark.parametrize("stage", range(3))
def test_every_stage_of_the_head_counts(stage: int) -> None:
    head, maps = worn_semantics().head, random_maps(96, 128)
    *_, last = head.stages[stage].children()
    assert isinstance(last, Bottleneck)
    with torch.inference_mode():
        plain = head(maps)
        last.project.weight.mul_(-1)
        for before, after in zip(plain, head(maps), strict=True):
            assert (before - after).abs().max() > 0.01


def test_folding_changes_nothing_but_the_form() -> None:
    head, maps = worn_semantics().head, random_maps(64, 96)
    inference = folded(head)
    kinds = [type(m) for m in inference.modules()]
    assert nn.BatchNorm2d not in kinds and Convolution not in kinds
    with torch.inference_mode():
        for before, after in zip(head(maps), inference(maps), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert any(isinstance(m, nn.BatchNorm2d) for m in head.modules())


# -- the file


@pytest.fixture
def untrained() -> SemanticModel:
    torch.manual_seed(3)
    classes = tuple(SemanticClass(10 * i, f"c{i}", (i, 0, 0), i == 2) for i in range(3))
    model = new_semantics(ClassCatalog("mine", classes, 255), 128)
    model.head.eval()
    model.classifier.eval()
    return model


def test_semantics_round_trip(untrained: SemanticModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_semantics(untrained, path, {"steps": 3})
    read = read_semantics(str(path))
    assert read.catalog == untrained.catalog and read.image_size == 128
    for name in ("head", "classifier"):
        before, after = getattr(untrained, name).state_dict(), getattr(read, name).state_dict()
        assert before.keys() == after.keys()
        for key, value in before.items():
            expected = value.half().float() if value.is_floating_point() else value
            torch.testing.assert_close(after[key], expected, rtol=0, atol=0)


def test_what_is_loaded_is_ready_for_inference(untrained: SemanticModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_semantics(untrained, path, {"steps": 3})
    loaded = load_semantics(str(path), CPU)
    assert loaded.catalog == untrained.catalog and loaded.image_size == 128
    for module in (loaded.head, loaded.classifier):
        assert not module.training and not any(p.requires_grad for p in module.parameters())
    maps = random_maps(96, 128)
    masks = torch.stack([box(2, 2, 9, 9), box(0, 0, 16, 8)])
    with torch.inference_mode():
        found, expected = loaded.head(maps), untrained.head(maps)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)
        torch.testing.assert_close(
            loaded.classifier(found.hidden, masks),
            untrained.classifier(found.hidden, masks),
            atol=0.02,
            rtol=0.02,
        )


def test_the_head_may_be_of_another_type_than_the_classifier() -> None:
    """It says the same in half the bits, but for what is not clear."""
    torch.manual_seed(0)
    model, maps = load_semantics("street", CPU, torch.bfloat16), random_maps(64, 64)
    with torch.inference_mode():
        dense = model.head(maps.bfloat16())
        exact = load_semantics("street", CPU).head(maps)
    assert dense.logits.dtype == torch.bfloat16
    assert (dense.logits.argmax(1) == exact.logits.argmax(1)).float().mean() > 0.9
    torch.testing.assert_close(dense.logits.float(), exact.logits, atol=0.5, rtol=0.1)
    assert model.classifier(dense.hidden.float(), box(2, 2, 9, 9)[None]).dtype == torch.float32


def test_the_embedded_semantics_know_camvid(shared: Path) -> None:
    """Every tenth image of val. The whole of it, and each class: see the model card."""
    model = load_semantics("street", CPU)
    assert model.catalog == CAMVID and EMBEDDED.stat().st_size < 8_000_000
    stills = load_stills(shared / "data" / "camvid" / "val", CAMVID)[::10]
    found = score(load_affinity_model("mobile", device="cpu"), model, stills)
    assert found.matrix.miou() > 0.55
    assert found.pixel_error() < 0.04


def test_missing_semantics_say_how_to_get_some(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="sam2vss train semantics.*'street'") as caught:
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
    elif how == "git-lfs":
        original.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif how == "foreign":
        save_file({"weight": torch.zeros(3)}, original)
    elif how == "other metadata":
        save_file({"weight": torch.zeros(3)}, original, {"sam2vss": json.dumps({"width": 1})})
    elif how == "no json":
        save_file({"weight": torch.zeros(3)}, original, {"sam2vss": "{"})


@pytest.mark.parametrize(
    "how",
    ["truncated", "empty", "no safetensors", "git-lfs", "foreign", "other metadata", "no json"],
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
    assert ("git lfs pull" in str(caught.value)) == (how == "git-lfs")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"catalog": None}, "it does not say its catalog and image_size"),
        ({"image_size": None}, "it does not say its catalog and image_size"),
        ({"image_size": 1e9}, "its image_size is pixels from 32 to 8192, not 1000000000.0"),
        ({"image_size": True}, "its image_size is pixels from 32 to 8192, not True"),
        ({"catalog": {"name": "x", "classes": []}}, "its catalog: not a class file: .* no classes"),
        ({"catalog": "x" * 100_000}, "its catalog: not a class file: it has no list `classes`"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(
    changes: dict[str, Any], said: str, untrained: SemanticModel, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    about = {"catalog": catalog_data(untrained.catalog), "image_size": 512} | changes
    weights = {"weight": torch.zeros(3)}
    save_weights(path, weights, {k: v for k, v in about.items() if v is not None})
    with pytest.raises(ValueError, match=said) as caught:
        load_semantics(str(path), CPU)
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["head", "classifier"])
def test_weights_that_are_not_finite_are_refused(
    part: str, untrained: SemanticModel, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    weights = next(getattr(untrained, part).parameters())
    with torch.no_grad():
        weights.view(-1)[0] = float("nan")
    save_semantics(untrained, path, {})
    with pytest.raises(ValueError, match=rf"{part}\..* holds NaN or infinite weights"):
        load_semantics(str(path), CPU)


def test_a_file_of_an_earlier_version_says_what_to_do(
    untrained: SemanticModel, tmp_path: Path
) -> None:
    path = tmp_path / "old.safetensors"
    save_semantics(untrained, path, {})
    tensors, about = load_weights(path)
    save_weights(path, {**tensors, "world.usual": torch.tensor(0.8)}, about)
    with pytest.raises(ValueError, match="an earlier version wrote it; 'sam2vss train semantics'"):
        load_semantics(str(path), CPU)


def test_a_head_on_the_trunks_own_stages_gets_them(
    untrained: SemanticModel, tmp_path: Path
) -> None:
    """A file from when the head had none of strides 8 and 16."""
    path = tmp_path / "old.safetensors"
    trunk = read_trunk(model_card("mobile"))
    stages = untrained.head.stages
    stages[0].load_state_dict(trunk.blocks[4:7].state_dict())
    stages[1].load_state_dict(trunk.blocks[7:14].state_dict())
    save_semantics(untrained, path, {})
    tensors, about = load_weights(path)
    old = {
        name.replace("head.stages.2.", "head.deep."): tensor
        for name, tensor in tensors.items()
        if not name.startswith(("head.stages.0.", "head.stages.1."))
    }
    assert len(old) < len(tensors)
    save_weights(path, old, about)
    read, maps = read_semantics(str(path)), random_maps(64, 96)
    read.head.eval()
    with torch.inference_mode():
        for ours, theirs in zip(read.head(maps), untrained.head(maps), strict=True):
            torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_tensors_of_another_shape_are_refused(untrained: SemanticModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    untrained.head.classify = nn.Conv2d(96, 4, 1)  # one class more than the catalog has
    save_semantics(untrained, path, {})
    with pytest.raises(ValueError, match="is not a semantics file"):
        load_semantics(str(path), CPU)
