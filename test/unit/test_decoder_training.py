"""Training of the mask decoder: lively clips, samples, loss, runs, and the shipped weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vss_ros.affinity.decoder import MaskDecoder, Seen
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.io.video_writer import VideoWriter
from sam2vss_ros.training import decoder as training
from sam2vss_ros.training.creatures import SIDE, Bending, creature
from sam2vss_ros.training.decoder import (
    LENGTHS,
    SHAPES,
    SampleStream,
    decoder_loss,
    gather,
    train_decoder,
)
from sam2vss_ros.training.leaving import SIZES, leaving_clip
from sam2vss_ros.training.pasted import Pictures
from sam2vss_ros.training.procedural import make_clip
from street_stills import CAMVID, street


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drawn street of 40 frames."""
    folder = tmp_path_factory.mktemp("videos")
    clip = make_clip(3, 40, (120, 160), kind="street")
    with VideoWriter(folder / "street.mp4", 30.0) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return folder


@pytest.fixture(scope="module")
def pictures(video: Path) -> Pictures:
    return Pictures.collect([street(size=200)], CAMVID, video)


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


# -- what moves


def test_a_creature_is_of_its_materials_alone() -> None:
    materials = [np.full((SIDE, SIDE, 3), shade, np.uint8) for shade in (20, 120, 220)]
    sizes = []
    for seed in range(20):
        made = creature(np.random.default_rng(seed), materials)
        assert made.image.shape == (SIDE, SIDE, 3) and made.mask.shape == (SIDE, SIDE)
        assert set(np.unique(made.image)) <= {20, 120, 220}
        assert not (made.mask[0].any() or made.mask[:, -1].any()), "it ends within its picture"
        sizes.append(int(made.mask.sum()))
    assert min(sizes) > 500 and max(sizes) > 2 * min(sizes)


def test_what_bends_changes_its_shape_and_stays_in_its_place() -> None:
    thing = creature(np.random.default_rng(1), [np.full((SIDE, SIDE, 3), 90, np.uint8)])
    bending = Bending(np.random.default_rng(2))
    shapes = [bending.at(t, thing).mask > 0 for t in range(0, 60, 5)]
    assert all(shape.any() for shape in shapes)
    least = min((shapes[0] & s).sum() / (shapes[0] | s).sum() for s in shapes)
    assert 0.1 < least < 0.97
    middle = SIDE // 2
    kept = (thing.mask > 0)[middle, middle]
    assert all(shape[middle, middle] == kept for shape in shapes)


def test_lively_clips_show_things_where_they_are_said_to_be(pictures: Pictures) -> None:
    moving = 0
    for seed in range(6):
        frames = list(leaving_clip(pictures, np.random.default_rng(seed), 12, lively=True))
        assert len(frames) == 12 and frames[0][1].shape in SIZES
        one, two = frames[0], frames[-1]
        nobody = (one[1] == 0) & (two[1] == 0)
        moving += bool(np.abs(one[0].astype(int) - two[0])[nobody].mean() > 8)
        assert any(ids.any() for _, ids in frames)
    assert moving, "some backgrounds move"


def test_footage_is_consecutive_and_of_the_size_asked(pictures: Pictures) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        frames = pictures.footage(rng, 10, (60, 90))
        assert len(frames) == 10 and all(frame.shape == (60, 90, 3) for frame in frames)
        steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(frames, frames[1:], strict=False)]
        assert max(steps) < np.abs(frames[0].astype(int) - rng.permutation(frames[0])).mean()
    assert len(pictures.footage(rng, 500, (60, 90))) <= 40, "a short video has fewer"


# -- samples


@pytest.fixture(scope="module")
def samples(
    pictures: Pictures, model: AffinityModel, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Of two clips, one of them drawn."""
    out = tmp_path_factory.mktemp("samples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FRAMES", 12)
        return gather(pictures, model, out, range(2), seed=0, resume=False)


def test_samples_are_what_was_read_and_the_truth(samples: list[Path]) -> None:
    rows = np.concatenate([np.load(path) for path in samples]).astype(np.float32)
    assert len(samples) == 2 and rows.shape[1] == sum(LENGTHS) and len(rows) > 20
    assert np.isfinite(rows).all()
    fine, _, truth = (
        part.reshape(-1, *shape)
        for part, shape in zip(np.split(rows, np.cumsum(LENGTHS)[:-1], 1), SHAPES, strict=True)
    )
    assert truth.min() >= 0 and truth.max() <= 1
    read, inside = fine[:, 0] > 0, truth > 0.5
    iou = (read & inside).sum((1, 2)) / np.maximum(1, (read | inside).sum((1, 2)))
    assert np.median(iou) > 0.5, "what is read is mostly of the thing that is asked for"


def test_gathering_goes_on_where_it_was_stopped(
    pictures: Pictures, model: AffinityModel, samples: list[Path], tmp_path: Path
) -> None:
    first = tmp_path / samples[0].name
    first.write_bytes(samples[0].read_bytes())
    with pytest.raises(FileExistsError, match="--resume"):
        gather(pictures, model, tmp_path, range(2), seed=0, resume=False)
    before = first.stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FRAMES", 12)
        files = gather(pictures, model, tmp_path, range(2), seed=0, resume=True)
    assert first.stat().st_mtime_ns == before
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in samples]


def test_batches_depend_on_their_step_alone(samples: list[Path]) -> None:
    stream = SampleStream(samples, seed=5, first_step=0)
    one, two, other = (stream.batch(np.random.default_rng((5, step))) for step in (3, 3, 4))
    assert torch.equal(one.seen.fine, two.seen.fine) and torch.equal(one.truth, two.truth)
    assert not torch.equal(one.truth, other.truth)
    assert one.seen.cues.shape == (training.BATCH, *SHAPES[1])


def test_the_loss_is_least_at_the_truth_and_counts_iou() -> None:
    truth = torch.zeros(2, 8, 8)
    truth[0, 2:6, 2:6] = 1
    right = torch.where(truth > 0.5, 12.0, -12.0)
    best, record = decoder_loss(right, truth, -right)
    worst, _ = decoder_loss(-right, truth, right)
    assert float(best) < 0.01 < float(worst)
    assert record["iou"] == 1.0 and record["read"] == 0.0


def test_a_run_learns_and_resumes(
    pictures: Pictures,
    model: AffinityModel,
    samples: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in samples:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(training, "CLIPS", len(samples))
    train_decoder(pictures, model, tmp_path, steps=2, resume=True)
    network = train_decoder(pictures, model, tmp_path, steps=12, resume=True)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 12
    batch = SampleStream(samples, seed=1, first_step=0).batch(np.random.default_rng(0))
    with torch.inference_mode():
        assert network(batch.seen).abs().max() > 0
        assert MaskDecoder().eval()(batch.seen).abs().max() == 0


# -- the shipped weights


def test_the_shipped_decoder_mends_more_than_it_harms(
    model: AffinityModel, samples: list[Path]
) -> None:
    """On clips of which it has seen neither the things nor the backgrounds."""
    rows = np.concatenate([np.load(path) for path in samples]).astype(np.float32)
    parts = torch.from_numpy(rows).split(LENGTHS, 1)
    fine, cues, truth = (p.unflatten(1, s) for p, s in zip(parts, SHAPES, strict=True))
    read = fine[:, 0] * training.UNIT
    with torch.inference_mode():
        _, record = decoder_loss(read + model.decoder(Seen(fine, cues)), truth, read)
    assert record["iou"] > record["read"] + 0.02
