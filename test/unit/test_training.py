"""Training: losses, material, and runs that can be interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from sam2vss_ros.cli import main
from sam2vss_ros.errors import InputError
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.sam2.functional import Decoded
from sam2vss_ros.sam2.nano import build_nano
from sam2vss_ros.semantics.catalog import ClassCatalog, SemanticClass, load_catalog
from sam2vss_ros.training import data, features, losses, nano, semantics
from sam2vss_ros.training.curves import PANEL_HEIGHT, WIDTH, draw_curves
from sam2vss_ros.training.data import VOID, LabelledStill, label_regions, load_stills, moving_still

CAMVID = load_catalog("camvid")


def two_halves(size: int = 64) -> LabelledStill:
    """Sky over road, a car in the middle, a column of void at the left."""
    labels = np.zeros((size, size), np.uint8)
    labels[size // 2 :] = 3
    labels[size // 2 - 8 : size // 2 + 8, 20:44] = 8
    labels[:, :4] = 255
    image = CAMVID.palette()[np.where(labels == 255, 11, labels)]
    return LabelledStill("halves", image, labels)


# -- losses


def square(side: int = 16) -> Tensor:
    target = torch.zeros(1, 1, side, side)
    target[:, :, 4:12, 4:12] = 1
    return target


@pytest.mark.parametrize("focus", [0.0, 0.7])
def test_a_perfect_mask_costs_nothing_and_a_wrong_one_much(focus: float) -> None:
    target = square()
    perfect, iou = losses.mask_loss(target * 40 - 20, target, focus)
    assert perfect.item() < 1e-3 and iou.item() == 1
    wrong, none = losses.mask_loss(20 - target * 40, target, focus)
    assert wrong.item() > 1 and none.item() == 0


def test_iou_of_half_a_mask() -> None:
    target = square()
    half = target.clone()
    half[:, :, 8:] = 0
    both = torch.cat([half, target], 1)
    _, iou = losses.mask_loss(both * 20 - 10, target, 0.5)
    assert iou.tolist() == [[0.5, 1.0]]


def test_decoder_loss_takes_the_best_of_three_for_ambiguous_prompts() -> None:
    target = square()
    masks = torch.cat([target, 1 - target, target, 1 - target], 1) * 40 - 20
    decoded = Decoded(
        masks, torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 4, 8), torch.tensor([[20.0]])
    )
    there, ambiguous = torch.tensor([True]), torch.tensor([True])
    loss, best, iou = losses.decoder_loss(decoded, target, there, ambiguous, 0.5)
    assert best.tolist() == [2] and iou.tolist() == [1.0]
    certain, single, _ = losses.decoder_loss(decoded, target, there, ~ambiguous, 0.5)
    assert single.tolist() == [0]
    assert certain.item() < 1e-3 < loss.item()  # the other two masks of three are wrong


def test_decoder_loss_of_an_absent_object_is_its_score_alone() -> None:
    target = torch.zeros(1, 1, 16, 16)
    masks, ious = torch.full((1, 4, 16, 16), 20.0), torch.ones(1, 4)
    absent, single = torch.tensor([False]), torch.tensor([False])
    for score, low, high in ((-20.0, 0.0, 1e-3), (20.0, 19.0, 21.0)):
        decoded = Decoded(masks, ious, torch.zeros(1, 4, 8), torch.tensor([[score]]))
        loss, _, _ = losses.decoder_loss(decoded, target, absent, single, 0.5)
        assert low <= loss.item() <= high


def test_region_contrast_likes_features_that_follow_the_regions() -> None:
    regions = torch.zeros(1, 32, 32, dtype=torch.uint8)
    regions[:, :, 16:] = 1
    sides = regions[:, ::4, ::4].float()[:, None]
    torch.manual_seed(0)
    follows = losses.region_contrast((torch.cat([sides, 1 - sides], 1),), regions)
    same = losses.region_contrast((torch.ones(1, 2, 8, 8),), regions)
    assert follows < 0.1 * same


def test_class_weights_raise_rare_classes() -> None:
    weights = losses.class_weights(np.array([10000, 100, 1, 0]))
    assert weights[0] < 1 < weights[2]
    assert weights.min() >= 0.2 and weights.max() <= 5.0


def test_label_loss_skips_void() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[:, 8:] = VOID
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0, :2] = 20
    logits[:, 1, 2:] = 20  # wrong, but only where nothing is known
    logits[:, :, 2] = logits[:, :, 1]  # what bilinear interpolation mixes over the border
    assert losses.label_loss(logits, labels, torch.ones(2), VOID).item() < 1e-3


# -- material


def write_still(folder: Path, name: str, still: LabelledStill) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    assert CAMVID.ignore_id is not None
    ids = np.where(still.labels == 255, CAMVID.ignore_id, still.labels).astype(np.uint8)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), still.image[..., ::-1])
    cv2.imwrite(str(folder / "labels" / f"{name}.png"), ids)


def test_stills_come_sorted_with_class_indices(tmp_path: Path) -> None:
    still = two_halves()
    for name in ("b", "a"):
        write_still(tmp_path, name, still)
    loaded = load_stills(tmp_path, CAMVID)
    assert [s.name for s in loaded] == ["a", "b"]
    assert np.array_equal(loaded[0].image, still.image)  # RGB
    assert np.array_equal(loaded[0].labels, still.labels)


def test_label_ids_become_indices_of_the_catalog(tmp_path: Path) -> None:
    """The loader's index is the class's place in the catalog, not its id."""
    write_still(tmp_path, "a", two_halves())
    classes = tuple(reversed(CAMVID.classes))
    loaded = load_stills(tmp_path, ClassCatalog("reversed", classes, CAMVID.ignore_id))
    assert set(np.unique(loaded[0].labels)) == {10 - 0, 10 - 3, 10 - 8, 255}


def break_label_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.zeros((32, 64), np.uint8))


def break_label_ids(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.full((64, 64), 77, np.uint8))


def lose_classes(folder: Path) -> None:
    for path in (folder / "labels").iterdir():
        cv2.imwrite(str(path), np.full((64, 64), 11, np.uint8))


def break_label_depth(folder: Path) -> None:
    cv2.imwrite(str(folder / "labels" / "a.png"), np.zeros((64, 64, 3), np.uint8))


def break_image(folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes(b"not an image")


def break_label(folder: Path) -> None:
    (folder / "labels" / "a.png").write_bytes(b"not an image")


def lose_label(folder: Path) -> None:
    (folder / "labels" / "a.png").unlink()


def lose_labels(folder: Path) -> None:
    shutil.rmtree(folder / "labels")


def lose_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def add_twin(folder: Path) -> None:
    cv2.imwrite(str(folder / "images" / "a.bmp"), np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (break_label_size, ["labels/a.png is 64x32", "images/a.png is 64x64"]),
        (break_label_ids, ["labels/a.png", "77"]),
        (break_label_depth, ["labels/a.png", "mode RGB", "grey of 8 or 16 bits, or palette"]),
        (break_image, ["images/a.png cannot be read as an image"]),
        (break_label, ["labels/a.png cannot be read as a label image"]),
        (lose_classes, ["labels: no pixel has a class of camvid"]),
        (lose_label, ["labels: no label for a.png"]),
        (lose_labels, ["labels is not a folder"]),
        (lose_images, ["images holds no images"]),
        (add_twin, ["images/a.bmp and", "images/a.png have one name but for the suffix"]),
    ],
)
def test_bad_folders_are_named(
    damage: Callable[[Path], None], names: list[str], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_still(tmp_path, name, two_halves())
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        load_stills(tmp_path, CAMVID)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".tif", ".webp"])
def test_images_of_any_suffix_are_trained_on(suffix: str, tmp_path: Path) -> None:
    still = two_halves()
    write_still(tmp_path, "a", still)
    (tmp_path / "images" / "a.png").unlink()
    Image.fromarray(still.image).save(tmp_path / "images" / f"a{suffix}")
    (loaded,) = load_stills(tmp_path, CAMVID)
    assert loaded.name == "a" and np.array_equal(loaded.labels, still.labels)
    # Compression changes colours near edges; a swap of red and blue would change all of the sky.
    difference = np.abs(loaded.image.astype(int) - still.image)
    assert difference.mean() < 5


def test_labels_may_be_indices_of_a_palette(tmp_path: Path) -> None:
    still = two_halves()
    write_still(tmp_path, "a", still)
    ids = np.where(still.labels == 255, 11, still.labels).astype(np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(CAMVID.palette()[:256].tobytes())
    palette.save(tmp_path / "labels" / "a.png")
    assert Image.open(tmp_path / "labels" / "a.png").mode == "P"
    (loaded,) = load_stills(tmp_path, CAMVID)
    assert np.array_equal(loaded.labels, still.labels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_labels_may_have_16_bits_and_another_suffix_than_their_image(
    suffix: str, tmp_path: Path
) -> None:
    write_still(tmp_path, "a", two_halves())
    (tmp_path / "labels" / "a.png").unlink()
    ids = np.full((64, 64), 300, np.uint16)
    ids[:, :10], ids[:, 10:20] = 65535, 44
    cv2.imwrite(str(tmp_path / "labels" / f"a{suffix}"), ids)
    names = ((44, "near"), (300, "far"))
    classes = tuple(SemanticClass(id_, name, (0, 0, 0), False) for id_, name in names)
    (loaded,) = load_stills(tmp_path, ClassCatalog("wide", classes, 65535))
    assert loaded.labels.dtype == np.uint8
    assert (loaded.labels[:, :10] == 255).all()
    assert (loaded.labels[:, 10:20] == 0).all() and (loaded.labels[:, 20:] == 1).all()


def test_more_classes_than_training_takes_are_refused(tmp_path: Path) -> None:
    write_still(tmp_path, "a", two_halves())
    classes = tuple(SemanticClass(i, str(i), (0, 0, 0), False) for i in range(256))
    with pytest.raises(InputError, match="class catalog many: 256 classes, training takes 255"):
        load_stills(tmp_path, ClassCatalog("many", classes))
    (loaded,) = load_stills(tmp_path, ClassCatalog("most", classes[:255]))
    assert set(np.unique(loaded.labels)) == {0, 3, 8, 11}


def test_label_regions_are_connected_and_void_is_none() -> None:
    labels = two_halves().labels
    regions = label_regions(labels)
    assert np.array_equal(regions == 0, labels == 255)
    assert {int(regions[0, 10]), int(regions[-1, 10]), int(regions[32, 30])} == {1, 2, 3}
    apart = labels.copy()
    apart[:, 30] = 255  # cuts every region in two
    assert len(np.unique(label_regions(apart))) == 1 + 6


def test_a_moving_still_moves_and_its_regions_move_along() -> None:
    """Every region has one colour: on the last frame the nearest colour still tells the region."""
    frames, ids = moving_still(two_halves(128), 16, 64, np.random.default_rng(0))
    assert frames.shape == (16, 64, 64, 3) and frames.dtype == np.uint8
    assert ids.shape == (16, 64, 64) and ids.dtype == np.uint8
    regions = [int(r) for r in np.unique(ids[0])]
    assert len(regions) == 4  # sky, road, car and void, which is 0
    colours = np.array([np.median(frames[0][ids[0] == r], axis=0) for r in regions])
    distance = np.abs(frames[-1][:, :, None].astype(float) - colours).sum(-1)
    nearest = np.array(regions)[distance.argmin(-1)]
    assert (nearest == ids[-1]).mean() > 0.95
    assert (nearest == ids[0]).mean() < 0.8  # it did move


def test_augmented_stills_keep_image_and_labels_together() -> None:
    still = two_halves(128)
    image, index = data.augmented_still(still, 64, np.random.default_rng(2))
    assert image.shape == (64, 64, 3) and index.shape == (64, 64)
    assert set(np.unique(index)) <= {VOID, 0, 3, 8}
    for a, b in ((0, 3), (3, 8)):
        gap = np.abs(image[index == a].mean(0) - image[index == b].mean(0)).max()
        assert gap > 20  # each class still has its own colour


def test_step_k_is_the_same_whatever_came_before_it() -> None:
    def third(first_step: int, taken: int) -> data.Clips:
        stream = data.ClipStream(
            [two_halves()], seed=7, first_step=first_step, clips=2, frames=2, size=64,
            still_count=1, still_size=64,
        )  # fmt: skip
        batches = iter(stream)
        for _ in range(taken):
            next(batches)
        return next(batches)

    a, b = third(0, 2), third(2, 0)
    assert torch.equal(a.frames, b.frames) and torch.equal(a.regions, b.regions)
    assert torch.equal(a.stills.images, b.stills.images)
    assert a.frames.shape == (2, 2, 3, 64, 64) and a.regions.shape == (2, 2, 64, 64)
    assert not torch.equal(a.frames, third(0, 1).frames)


def test_prompts_lie_on_their_masks() -> None:
    masks = np.zeros((3, 64, 64), bool)
    masks[:, 20:40, 10:50] = True
    points, labels = nano.sample_prompts(
        masks, [nano.POINT, nano.POINT, nano.BOX], np.random.default_rng(1)
    )
    for (x, y), label in zip(points[:2, 0].int().tolist(), labels[:2].tolist(), strict=True):
        assert masks[0, y, x] and label == [1, -1]
    assert labels[2].tolist() == [2, 3]
    assert torch.allclose(points[2], torch.tensor([[10.0, 20.0], [50.0, 40.0]]), atol=8)


def test_masks_such_as_a_tracker_has_know_their_shares() -> None:
    labels = two_halves().labels
    quarter = labels[2::4, 2::4]
    pure = []
    for seed in range(20):
        masks, shares = features.sample_masks(labels, 11, np.random.default_rng(seed))
        assert masks.shape[1:] == (16, 16) and masks.dtype == torch.bool
        for mask, share in zip(masks.numpy(), shares.numpy(), strict=True):
            inside = quarter[mask]
            known = inside[inside != 255]
            assert share.sum() == pytest.approx(1) and set(np.flatnonzero(share)) <= {0, 3, 8}
            assert share[3] == pytest.approx((known == 3).mean())
            pure.append(share.max())
    assert 0.3 < np.mean(np.array(pure) > 0.99) < 0.95, "good ones and bad ones"
    nothing, none = features.sample_masks(
        np.full((64, 64), 255, np.uint8), 11, np.random.default_rng(0)
    )
    assert nothing.shape == (0, 16, 16) and none.shape == (0, 11)


# -- runs

SCHEDULE = (
    nano.Phase(steps=1, size=64, frames=2, clips=2, objects=4, stills=1),
    nano.Phase(steps=1, size=96, frames=3, clips=1, objects=3, stills=1),
)


def interrupt_at(module: Any, step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before training step `step` of a module's next runs."""
    train_step = module._train_step

    def stopping(*args: Any) -> dict[str, float]:
        state = next(a for a in args if isinstance(a, module._State))
        if state.step == step:
            raise KeyboardInterrupt
        record: dict[str, float] = train_step(*args)
        return record

    patch.setattr(module, "_train_step", stopping)


def steps_logged(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Material made here and not by another process, which takes seconds to start."""
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    monkeypatch.setattr(nano, "STILL_SIZE", 64)


@pytest.mark.usefixtures("in_process")
def test_nano_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(name: str, resume: bool = False) -> dict[str, Tensor]:
        stills = [two_halves()]
        network = nano.train_nano(stills, CAMVID, tmp_path / name, schedule=SCHEDULE, resume=resume)
        weights: dict[str, Tensor] = network.state_dict()
        return weights

    whole = train("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(nano, 1, patch)
        train("broken")
    assert steps_logged(tmp_path / "broken") == [1]
    with pytest.raises(FileExistsError, match="--resume"):
        train("broken")
    resumed = train("broken", resume=True)
    assert steps_logged(tmp_path / "broken") == [1, 2]
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    fresh = build_nano().state_dict()
    assert any(not torch.equal(value, whole[key]) for key, value in fresh.items())


@pytest.fixture(scope="module")
def small_model() -> Sam2Model:
    """nano with random weights at 64 pixels."""
    torch.manual_seed(1)
    network = build_nano(64).eval().requires_grad_(False)
    return Sam2Model(model_card("nano"), network, torch.device("cpu"), torch.float32)


def test_semantics_resume_to_the_same_weights(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantics, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(semantics, "EXAMINE_EVERY", 1)
    stills = [two_halves(), two_halves(96)]

    def train(name: str, resume: bool = False) -> dict[str, Tensor]:
        model, found = semantics.train_semantics(
            small_model, stills, CAMVID, tmp_path / name, steps=2, held_out={1}, resume=resume
        )
        assert model.catalog == CAMVID and model.backbone == "nano" and model.image_size == 64
        assert not model.head.training and not model.classifier.training
        assert found is not None and 0 <= found.dense.miou() <= 1 and found.masks
        assert (tmp_path / name / "curves.png").stat().st_size > 1000
        return model.head.state_dict() | model.classifier.state_dict()

    whole = train("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(semantics, 1, patch)
        train("broken")
    with pytest.raises(FileExistsError, match="--resume"):
        train("broken")
    resumed = train("broken", resume=True)
    assert steps_logged(tmp_path / "broken") == [1, 2]
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_semantics_learn_two_colours(small_model: Sam2Model, tmp_path: Path) -> None:
    """Even on random features: the loss of the first steps must fall clearly."""
    semantics.train_semantics(small_model, [two_halves()], CAMVID, tmp_path, steps=25)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean([r["dense"] for r in log[-5:]]) < 0.7 * np.mean([r["dense"] for r in log[:5]])


def test_training_stops_where_held_out_stills_get_no_better(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantics, "EXAMINE_EVERY", 1)
    monkeypatch.setattr(semantics, "PATIENCE", 2)
    monkeypatch.setattr(semantics.Examination, "score", property(lambda self: 0.5))
    semantics.train_semantics(
        small_model, [two_halves(), two_halves(96)], CAMVID, tmp_path, steps=50, held_out={1}
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(log) == 4  # the first is the best, and two more may follow it in vain


def test_features_are_made_once_and_only_for_what_they_are_of(
    small_model: Sam2Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = features.FeatureCache(small_model, [two_halves()], 11, tmp_path, seed=0)
    assert cache.views == features.MOST_VIEWS
    first = cache.view(0, 1)
    assert first.pyramid[0].dtype == torch.float16 and first.labels.shape == (64, 64)
    again = features.FeatureCache(small_model, [two_halves()], 11, tmp_path, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(again, "_make", lambda *_: pytest.fail("they are there"))
        assert torch.equal(again.view(0, 1).pyramid[2], first.pyramid[2])
    for stills, seed in (([two_halves(96)], 0), ([two_halves()], 1)):
        with pytest.raises(FileExistsError, match="other images, another model or another seed"):
            features.FeatureCache(small_model, stills, 11, tmp_path, seed=seed)
    monkeypatch.setattr(features, "CACHE_BYTES", 3 * cache.view_bytes)
    small = features.FeatureCache(small_model, [two_halves()] * 2, 11, tmp_path / "b", seed=0)
    assert small.views == 1


def test_calibration_makes_scores_true(small_model: Sam2Model, tmp_path: Path) -> None:
    """Scores that are far too sure become less so."""
    model, found = semantics.train_semantics(
        small_model, [two_halves(), two_halves(96)], CAMVID, tmp_path, steps=3, held_out={1}
    )
    cache = features.FeatureCache(
        small_model, [two_halves(), two_halves(96)], 11, tmp_path / "features", 0
    )
    assert found is not None
    for layer in (model.head.classify, model.classifier.layers[-1]):
        for parameter in layer.parameters():
            parameter.data.mul_(2.5)
    spoilt = semantics.examine(model, cache, [1])
    semantics.calibrate(model, cache, [1])
    mended = semantics.examine(model, cache, [1])
    assert np.array_equal(mended.dense.counts, spoilt.dense.counts)
    assert mended.dense_error == pytest.approx(found.dense_error, abs=0.01)
    assert semantics.calibration_error(torch.tensor([[0.9, 1.0], [0.9, 0.0]])) == pytest.approx(0.4)


def test_batches_come_in_order_from_another_process() -> None:
    def stream() -> data.ClipStream:
        return data.ClipStream(
            [two_halves()], seed=3, first_step=4, clips=1, frames=2, size=64,
            still_count=1, still_size=64,
        )  # fmt: skip

    here, there = iter(stream()), stream().in_background()
    for _ in range(2):
        mine, theirs = next(here), next(there)
        assert torch.equal(mine.frames, theirs.frames)
        assert torch.equal(mine.regions, theirs.regions)
        assert torch.equal(mine.stills.images, theirs.stills.images)


def test_nothing_to_train_on(small_model: Sam2Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stills"):
        nano.train_nano([], CAMVID, tmp_path / "a")
    with pytest.raises(ValueError, match="stills"):
        semantics.train_semantics(small_model, [], CAMVID, tmp_path / "b", steps=1)
    with pytest.raises(ValueError, match="stills"):
        semantics.train_semantics(
            small_model, [two_halves()], CAMVID, tmp_path / "c", steps=1, held_out={0}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "images is not a folder"),
        (["--holdout", "1"], "holdout: 1.0"),
        (["--steps", "0"], "steps: 0"),
    ],
)
def test_train_semantics_says_what_is_wrong(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    assert main(["train", "semantics", "--data", str(tmp_path), "--out", str(out), *options]) == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def test_curves_are_drawn_one_below_the_other(tmp_path: Path) -> None:
    """A falling loss and a rising score that only some steps have; what is never finite is left."""
    records: list[dict[str, float]] = [
        {"step": i, "loss": 1 - i / 300, "broken": float("nan")} for i in range(1, 201)
    ]
    for record in records[::20]:
        record["score"] = record["step"] / 300
    log, picture = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    draw_curves(log, picture)
    image = cv2.imread(str(picture)).astype(int)
    height = round(100 * PANEL_HEIGHT)
    assert image.shape == (2 * height, 100 * WIDTH, 3)
    blue = image[..., 0] - image[..., 2] > 100  # BGR

    def rises(panel: npt.NDArray[np.bool_]) -> bool:
        rows, columns = panel.nonzero()
        return bool(rows[columns.argmin()] > rows[columns.argmax()])

    assert [rises(blue[:height]), rises(blue[height:])] == [False, True]


def test_no_curves_of_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": NaN}\n')
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
