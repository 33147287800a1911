"""From features to classes: dense head, mask classifier, and their file."""

from __future__ import annotations

import json
from pathlib import Path

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
from sam2vss_ros.semantics.model import (
    EMBEDDED,
    SemanticModel,
    load_semantics,
    new_semantics,
    save_semantics,
)
from sam2vss_ros.semantics.segmenter import DenseHead, label_of
from squares import box

CPU = torch.device("cpu")


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
