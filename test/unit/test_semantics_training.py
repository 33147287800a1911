"""Training of the semantics: material, losses, calibration and runs."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.trunk import Bottleneck
from sam2vss_ros.cli import main
from sam2vss_ros.semantics.model import SemanticModel, load_semantics, read_semantics
from sam2vss_ros.semantics.segmenter import DenseHead
from sam2vss_ros.semantics.weights_file import load_weights
from sam2vss_ros.training import calibration, data, losses, semantics, views
from sam2vss_ros.training.data import VOID, LabelledStill
from stills import two_halves
from street_stills import CAMVID, CPU, street, worn_semantics


@pytest.fixture(scope="module")
def trunk() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu", image_size=64)


# -- views


def stream(stills: list[LabelledStill], count: int = 2, **options: int) -> views.ViewStream:
    arguments = {"size": 64, "seed": 0, "first_step": 0} | options
    return views.ViewStream(stills, CAMVID, count=count, **arguments)


def test_views_keep_image_and_labels_together() -> None:
    """Sky and road have each a colour of their own in every view, by which the labels are found."""
    batch = next(iter(stream([street()], count=16)))
    assert batch.images.shape == (16, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.labels.shape == (16, 64, 64) and batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {VOID, 0, 2, 3}
    greener = []
    for image, labels in zip(batch.images.permute(0, 2, 3, 1), batch.labels, strict=True):
        if not {0, 3} <= set(labels.unique().tolist()):
            continue
        sky, road = (image[labels == index].float().median(0).values for index in (0, 3))
        nearer_to_sky = (image - sky).abs().sum(-1) < (image - road).abs().sum(-1)
        known = (labels == 0) | (labels == 3)
        assert (nearer_to_sky == (labels == 0))[known].float().mean() > 0.9
        # The road is purple, the sky grey: a change of their colours seldom turns that round.
        shares = [float(colour[1] / colour.sum()) for colour in (sky, road)]
        greener.append(shares[0] > shares[1])
    assert len(greener) >= 5 and np.mean(greener) > 0.7


def test_views_know_the_middles_of_their_cars() -> None:
    """Where there is a car there is the way to its middle; sky, road and poles are no things."""
    batch = next(iter(stream([two_halves()], count=16)))
    assert batch.middles.shape == (16, 4, 16, 16) and batch.middles.dtype == torch.float32
    cars = batch.labels[:, 2::4, 2::4] == 8
    learned = batch.middles[:, 3] > 0
    assert learned.sum() > 100 and (learned & ~cars).sum() == 0
    assert learned[cars].float().mean() > 0.9, "all but parts that are too small"
    for near, x, y, seen in batch.middles:
        if seen.any() and near.max() == 1 and (near == 1).sum() == 1:
            ((row, column),) = (near == 1).nonzero().tolist()
            rows, columns = (seen > 0).nonzero().T
            to_x = columns + 16 * x[rows, columns]
            to_y = rows + 16 * y[rows, columns]
            assert (to_x - column).abs().max() <= 1 and (to_y - row).abs().max() <= 1
    assert not next(iter(stream([street()]))).middles.any()


def test_a_pasted_car_is_a_thing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PASTED", 1.0)
    monkeypatch.setattr(views, "RARE", 0.9)
    material = stream([two_halves()], size=256)
    seen = [material._view(np.random.default_rng(k)) for k in range(20)]
    assert {tuple(np.unique(view.instances).tolist()) for view in seen} >= {(0, 1, 10_001)}
    for view in seen:
        assert np.array_equal(view.instances > 0, view.labels == 8)


def test_step_k_has_the_same_views_whatever_came_before_it() -> None:
    early, late = (iter(stream([street()], seed=1, first_step=step)) for step in (3, 4))
    third, fourth = next(early), next(early)
    for ours, theirs in zip(fourth, next(late), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(third.images, fourth.images)


def test_a_view_is_a_part_of_the_image_whatever_its_size() -> None:
    labels = np.zeros((120, 180), np.uint8)
    for seed in range(20):
        matrix = views.view_matrix(labels.shape, 96, np.random.default_rng(seed))
        # It shows from a seventh to a half of the rows.
        assert 17 < 96 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 62
        seen = cv2.warpAffine(labels, matrix, (96, 96), flags=cv2.INTER_NEAREST, borderValue=255)
        assert (seen != 255).mean() > 0.2
        double = views.view_matrix((240, 360), 96, np.random.default_rng(seed))
        assert double[:, :2] == pytest.approx(matrix[:, :2] / 2)


def test_relit_takes_any_brightness() -> None:
    rng = np.random.default_rng(0)
    dusk, day = (np.full((32, 32, 3), v, np.uint8) for v in (60, 130))
    for image in (dusk, day):
        means = [views.relit(image, rng).mean() for _ in range(60)]
        assert min(means) < 80 and max(means) > 120
    for extreme in (np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)):
        assert views.relit(extreme, rng).dtype == np.uint8


def test_images_with_rare_classes_come_more_often() -> None:
    plain = replace(street(), labels=np.where(street().labels == 2, 0, street().labels))
    chance = stream([plain, street()])._chance
    assert chance[1] > 2 * chance[0] > 0
    assert chance.sum() == pytest.approx(1)


# -- losses and the rate


def test_a_perfect_prediction_costs_nothing_and_void_is_skipped() -> None:
    labels = torch.from_numpy(street().labels.astype(np.int64))[None]
    labels[labels == 255] = VOID
    perfect = 40 * F.one_hot(labels.clamp(min=0), 11).permute(0, 3, 1, 2).float()
    weights = torch.ones(11)
    entropy, overlap = losses.dense_losses(perfect, labels, weights)
    assert entropy < 0.2 and overlap < 0.15  # upsampled and pooled again: boundaries blur
    perfect[:, :, labels[0] == VOID] = torch.randn(11, 1)
    _, again = losses.dense_losses(perfect, labels, weights)
    assert again == pytest.approx(overlap.item(), abs=0.02)
    entropy, overlap = losses.dense_losses(-perfect, labels, weights)
    assert entropy > 5 and overlap > 0.9


def test_void_alone_costs_nothing_but_nan_free_overlap() -> None:
    labels = torch.full((1, 16, 16), VOID)
    _, overlap = losses.dense_losses(torch.randn(1, 11, 4, 4), labels, torch.ones(11))
    assert overlap == 1


def test_the_learning_rate_rises_rests_and_falls_to_zero() -> None:
    rates = [semantics.learning_rate(step, 1000) for step in range(1001)]
    peak = semantics.PEAK_RATE
    assert rates[0] < 0.02 * peak and rates[semantics.WARMUP_STEPS] == rates[500] == peak
    assert 0 < rates[999] < 0.01 * peak and rates[1000] == 0


def test_the_end_of_each_recording_is_kept_out() -> None:
    names = [f"a_{i:03d}" for i in range(10)] + [f"b2_f{i:03d}" for i in range(20)]
    used, kept = data.split_off([street(n) for n in names], 0.1)
    assert [s.name for s in kept] == ["a_009", "b2_f018", "b2_f019"]
    assert sorted(s.name for s in [*used, *kept]) == sorted(names)
    assert data.split_off([street()], 0.0)[1] == []


# -- calibration


def test_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    found = calibration.calibration_error(torch.tensor([0.9, 0.9]), torch.tensor([1.0, 0.0]))
    assert found == pytest.approx(0.4)
    assert calibration.calibration_error(torch.ones(3), torch.ones(3)) == 0
    assert calibration.calibration_error(torch.zeros(0), torch.zeros(0)) == 0


def test_calibration_finds_false_confidence_and_false_priors() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.4, 0.5, 1.0, 2.0, 4.0])
    honest = (torch.randn(20000, 5) * 2).log_softmax(1)
    truth = torch.distributions.Categorical(logits=honest).sample()

    def error(scores: Tensor) -> float:
        confidence, best = scores.softmax(1).max(1)
        return calibration.calibration_error(confidence, (best == truth).float())

    assert calibration.best_calibration(honest, truth, weights) == pytest.approx((0, 1), abs=0.08)
    assert error(honest) < 0.02
    biased = 2 * (honest + 0.6 * weights.log())
    assert error(biased) > 0.05
    correction, temperature = calibration.best_calibration(biased, truth, weights)
    assert (correction, temperature) == pytest.approx((1, 2), rel=0.25)
    assert error((biased - correction * weights.log()) / temperature) < 0.02


def drawn(trunk: AffinityModel, honest: SemanticModel, seed: int) -> LabelledStill:
    """Noise, with labels drawn from the probabilities that a head gives each of its pixels."""
    torch.manual_seed(seed)
    image = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
    blank = LabelledStill(f"noise_{seed}", image, np.zeros((128, 128), np.uint8))
    with torch.inference_mode():
        logits = honest.head(calibration._features(trunk, honest, blank)).logits
    logits = F.interpolate(logits, (128, 128), mode="bilinear")[0]
    labels = torch.distributions.Categorical(logits=logits.permute(1, 2, 0)).sample()
    return replace(blank, labels=labels.numpy().astype(np.uint8))


def test_calibration_takes_back_what_is_wrong(trunk: AffinityModel) -> None:
    """A head that is right about its labels, made to be twice as sure and to like rare classes."""
    right, weights = worn_semantics(image_size=128), torch.linspace(0.4, 4, 11)
    right.head.classify.weight.data *= 3  # it is sure enough of something
    stills = [drawn(trunk, right, seed) for seed in range(3)]
    wrong = replace(right, head=deepcopy(right.head))
    assert wrong.head.classify.bias is not None
    wrong.head.classify.bias.data += 0.4 * weights.log()
    for parameter in wrong.head.classify.parameters():
        parameter.data *= 2
    spoilt = deepcopy(wrong.head.classify.state_dict())
    rough = calibration.score(trunk, wrong, stills)
    mended = calibration.calibrated(wrong, weights, rough)
    found = calibration.score(trunk, mended, stills)
    assert rough.pixel_error() > 0.1 and found.pixel_error() < 0.04
    for name, value in mended.head.classify.state_dict().items():
        torch.testing.assert_close(
            value, right.head.classify.state_dict()[name], atol=0.15, rtol=0.1
        )
        assert torch.equal(wrong.head.classify.state_dict()[name], spoilt[name]), "a copy is mended"


def test_calibration_makes_the_scores_of_masks_true(trunk: AffinityModel) -> None:
    """A classifier that is far too sure becomes less so; what it likes best stays."""
    model, weights = worn_semantics(), torch.ones(11)
    for parameter in model.classifier.layers[-1].parameters():
        parameter.data.mul_(40)
    stills = [two_halves(), two_halves(96)]
    rough = calibration.score(trunk, model, stills)
    assert len(rough.shares) == len(rough.mask_scores) >= 6
    torch.testing.assert_close(rough.shares.sum(1), torch.ones(len(rough.shares)))
    found = calibration.score(trunk, calibration.calibrated(model, weights, rough), stills)
    assert found.mask_error() < rough.mask_error()
    assert torch.equal(found.mask_scores.argmax(1), rough.mask_scores.argmax(1))
    assert found.masks_right() == rough.masks_right()


def test_a_score_without_masks(trunk: AffinityModel) -> None:
    void = replace(street(), labels=np.full((64, 64), 255, np.uint8))
    void.labels[0, 0] = 3
    found = calibration.score(trunk, worn_semantics(), [void])
    assert found.mask_scores.shape == found.shares.shape == (0, 11)
    assert found.truth.tolist() == [3] and found.masks_right() == 0 == found.mask_error()
    assert found.as_json()["per_class_iou"]["Car"] is None
    calibration.calibrated(worn_semantics(), torch.ones(11), found)


# -- the deepest stages


def published(deep: torch.nn.Sequential) -> dict[str, Tensor]:
    """A MobileNetV2's weights as PyTorch names them, whose convolutions are those of `deep`."""
    weights: dict[str, Tensor] = {}
    for number, block in enumerate(deep, 14):
        assert isinstance(block, Bottleneck) and block.expand is not None
        for j, convolution in enumerate((block.expand, block.filter, block.project)):
            assert convolution.bias is not None
            place, channels = f"features.{number}.conv", convolution.out_channels
            mean, gain = torch.randn(channels), torch.rand(channels) + 0.5
            weights[f"{place}.{3 * j}.weight"] = convolution.weight / gain[:, None, None, None]
            weights[f"{place}.{3 * j + 1}.weight"] = gain
            weights[f"{place}.{3 * j + 1}.bias"] = convolution.bias + mean * gain
            weights[f"{place}.{3 * j + 1}.running_mean"] = mean
            weights[f"{place}.{3 * j + 1}.running_var"] = torch.ones(channels) - 1e-5
    return {key: value.detach() for key, value in weights.items()}


def test_a_published_mobilenet_begins_the_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs, ours = DenseHead(11).deep, DenseHead(11).deep
    torch.save(published(theirs), tmp_path / "mobilenet.pt")
    semantics.load_deep_stages(ours, tmp_path / "mobilenet.pt")
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how", ["no file of torch", "empty", "a list", "no tensors", "a part", "other shapes"]
)
def test_what_is_no_mobilenet_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    deep = DenseHead(11).deep
    before = deepcopy(deep.state_dict())
    weights = published(deep)
    if how in ("no file of torch", "empty"):
        path.write_bytes(b"no weights" if how == "no file of torch" else b"")
    elif how == "a list":
        torch.save([1, 2], path)
    elif how == "no tensors":
        torch.save(dict.fromkeys(weights, 1.0), path)
    elif how == "a part":
        torch.save({k: v for k, v in weights.items() if "features.16" not in k}, path)
    else:
        torch.save(weights | {"features.17.conv.6.weight": torch.zeros(9, 960, 1, 1)}, path)
    with pytest.raises(ValueError, match="other.pt holds no MobileNetV2") as caught:
        semantics.load_deep_stages(deep, path)
    assert "\n" not in str(caught.value)
    for key, value in before.items():
        assert torch.equal(deep.state_dict()[key], value), key


# -- runs


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Material made here and not by another process, which takes seconds to start."""
    monkeypatch.setattr(data.SeededStream, "in_background", data.SeededStream.__iter__)
    monkeypatch.setattr(semantics, "CHECKPOINT_EVERY", 1)


def train(
    trunk: AffinityModel,
    out: Path,
    steps: int,
    resume: bool = False,
    pretrained: Path | None = None,
) -> dict[str, Tensor]:
    model = semantics.train_semantics(
        trunk,
        [street(), two_halves()],
        CAMVID,
        out,
        steps=steps,
        resume=resume,
        pretrained=pretrained,
        views=2,
        size=64,
    )
    assert model.catalog == CAMVID and model.image_size == 512
    assert not model.head.training and not model.classifier.training
    return model.head.state_dict() | model.classifier.state_dict()


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_run_resumes_to_the_same_weights(
    trunk: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(trunk, tmp_path / "whole", 3)
    step = semantics._train_step

    def stopping(trunk: AffinityModel, state: Any, *args: Any) -> dict[str, float]:
        if state.step == 2:
            raise KeyboardInterrupt
        return step(trunk, state, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(semantics, "_train_step", stopping)
        train(trunk, tmp_path / "broken", 3)
    with pytest.raises(FileExistsError, match="--resume"):
        train(trunk, tmp_path / "broken", 3)
    resumed = train(trunk, tmp_path / "broken", 3, resume=True)
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    log = (tmp_path / "broken" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]
    # All of it was trained.
    begun = read_semantics("street").head.deep.state_dict()
    assert any(not torch.equal(value, whole[f"deep.{key}"]) for key, value in begun.items())


@pytest.mark.usefixtures("in_process")
def test_it_learns_a_street(
    trunk: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of the first steps must fall clearly."""
    monkeypatch.setattr(semantics, "WARMUP_STEPS", 5)
    monkeypatch.setattr(semantics, "CHECKPOINT_EVERY", 100)
    train(trunk, tmp_path, 40)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for loss, limit in (("entropy", 0.7), ("overlap", 0.92), ("masks", 0.8), ("middles", 0.8)):
        first, last = (np.mean([r[loss] for r in part]) for part in (log[:5], log[-5:]))
        assert last < limit * first, loss


def folder_of(stills: list[LabelledStill], root: Path) -> Path:
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for still in stills:
        ids = np.where(still.labels == 255, 11, still.labels).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{still.name}.png"), still.image[..., ::-1])
        cv2.imwrite(str(root / "labels" / f"{still.name}.png"), ids)
    return root


@pytest.mark.usefixtures("in_process")
def test_the_command_trains_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = dict(semantics.train_semantics.__kwdefaults__ or {}) | {"views": 2, "size": 64}
    monkeypatch.setattr(semantics.train_semantics, "__kwdefaults__", small)
    folder = folder_of([street(f"a_{i}") for i in range(4)], tmp_path / "data")
    out = tmp_path / "mine.safetensors"
    torch.save(published(DenseHead(11).deep), tmp_path / "mobilenet.pt")
    command = ["train", "semantics", "--data", str(folder), "--out", str(out), "--device", "cpu"]
    command += ["--steps", "2", "--holdout", "0.25"]
    assert main([*command, "--pretrained", str(tmp_path / "mobilenet.pt")]) == 0
    printed = capsys.readouterr().out
    assert "trained on 3 images" in printed and "on 1 held-out images: mIoU" in printed
    assert "Pole" in printed
    card = load_weights(out)[1]["card"]
    assert card["images"] == 3 and card["steps"] == 2
    assert card["held_out"]["per_class_iou"]["Car"] is None
    model = load_semantics(str(out), CPU)
    assert model.catalog == CAMVID and model.image_size == 512
    assert (tmp_path / "mine.run" / "curves.png").is_file()
    assert main(command) == 2
    assert "give --resume to go on or another --out" in capsys.readouterr().err
    assert main([*command, "--resume", "--holdout", "0"]) == 0
    assert (
        "held-out" not in capsys.readouterr().out and "held_out" not in load_weights(out)[1]["card"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "images is not a folder"),
        (("--holdout", "1"), "holdout: 1.0 is not a share from 0 to below 1"),
        (("--steps", "0"), "steps: 0 is not a positive number"),
        (("--classes", "nowhere"), "shipped by name"),
        (("--out", "/nowhere/net.safetensors"), "out: the folder of /nowhere/net"),
    ],
)
def test_bad_options_are_named(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.safetensors"
    command = ("train", "semantics", "--data", str(tmp_path), "--out", str(out), *options)
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not out.exists()


def test_nothing_to_train_on(trunk: AffinityModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no stills"):
        semantics.train_semantics(trunk, [], CAMVID, tmp_path / "run", steps=1)
    assert not list(tmp_path.iterdir())
