"""Is an object there? The signs, the network that weighs them, and its training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.presence import PresenceNet, Sign
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stages import features
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.presence import MOST_CHANGE, looked_at, signs_of
from sam2vss_ros.training import presence
from sam2vss_ros.training.leaving import SIZES, leaving_clip
from sam2vss_ros.training.pasted import Pictures
from sam2vss_ros.training.presence import fit, rightness, train_presence
from sam2vss_ros.types import Frame, Prompt, TrackState
from streams import find, pipeline
from street_stills import CAMVID, street

Box = tuple[int, int, int, int]

# -- clips


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.collect([street(size=200)], CAMVID, None)


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def test_pasted_things_leave_or_are_covered_and_return(pictures: Pictures) -> None:
    returns = 0
    for seed in range(4):
        clip = list(leaving_clip(pictures, np.random.default_rng(seed), 80))
        assert all(i.shape == (*t.shape, 3) and i.dtype == np.uint8 for i, t in clip)
        assert clip[0][1].shape in SIZES
        for thing in range(1, 1 + max(int(ids.max()) for _, ids in clip)):
            here = "".join("x" if (ids == thing).any() else "." for _, ids in clip)
            returns += "x" in here and "." in here.strip(".")
    assert returns >= 3


def test_the_same_chance_gives_the_same_clip(pictures: Pictures) -> None:
    clips = [leaving_clip(pictures, np.random.default_rng(3), 4) for _ in range(2)]
    for one, two in zip(*clips, strict=True):
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])


# -- signs


def scene(*things: tuple[Box, tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """A grey wall with grain, and boxes x0, y0, x1, y1 in colours with another grain."""
    rng = np.random.default_rng(4)
    image = rng.normal(120, 8, (192, 256, 3))
    for (x0, y0, x1, y1), colour in things:
        stripes = 40 * (np.arange(x0, x1) // 4 % 2)[:, None]
        image[y0:y1, x0:x1] = np.array(colour) + stripes
    return image.clip(0, 255).astype(np.uint8)


def box(image: npt.NDArray[np.uint8], place: Box) -> npt.NDArray[np.bool_]:
    mask = np.zeros(image.shape[:2], bool)
    x0, y0, x1, y1 = place
    mask[y0:y1, x0:x1] = True
    return mask


RED, BLUE = ((40, 60, 90, 120), (180, 40, 30)), ((150, 60, 210, 120), (30, 50, 180))


def signs_at(*places: Box) -> torch.Tensor:
    """Signs of the red and the blue thing, begun where they are, with masks at these places."""
    pipe: VssPipeline = pipeline(discovery="off")
    image = scene(RED, BLUE)
    with pipe.perception.arithmetic():
        seen = features.extract(pipe.perception, Frame(image, 1), "refine")
        tracks = [pipe.stream.objects.start(i, ClassPosterior(1)) for i in (1, 2)]
        slots = [t.slot for t in tracks]

        def at(where: tuple[Box, ...]) -> ObjectBatch:
            masks = torch.from_numpy(np.stack([box(image, place) for place in where]))
            return ObjectBatch.of(tracks, pipe.stream.tracker.from_masks(seen.image, slots, masks))

        begun = at((RED[0], BLUE[0])).begun(pipe.stream.objects, seen)
        areas = (begun.masks > 0).flatten(1).sum(1).tolist()
        for track, embedding, area in zip(tracks, begun.embeddings, areas, strict=True):
            assert embedding is not None
            pipe.stream.objects.find(track, pipe.config)
            pipe.stream.objects.observe(track, area, pipe.config)
            pipe.stream.objects.learn(track, embedding)
        batch, around = looked_at(seen, at(places))
        return signs_of(batch, batch.without_overlaps(), around)


def test_signs_of_masks_where_their_objects_are() -> None:
    signs = signs_at(RED[0], BLUE[0])
    assert signs.shape == (2, len(Sign)) and signs.isfinite().all()
    assert (signs[:, [Sign.LIKE, Sign.BEGUN]] > 0.99).all()
    assert (signs[:, Sign.AROUND] < 0.7).all() and (signs[:, Sign.OTHER] < 0.9).all()
    assert (signs[:, [Sign.USUAL, Sign.LAST]].abs() < 0.01).all()
    assert (signs[:, Sign.OWNED] == 1).all() and (signs[:, Sign.MISSED] == 0).all()
    share = math.log(50 * 60 / (192 * 256))
    assert float(signs[0, Sign.SHARE]) == pytest.approx(share, abs=0.1)


def test_signs_of_a_mask_that_slid_off() -> None:
    there, off = signs_at(RED[0], BLUE[0])[0], signs_at((100, 60, 140, 80), BLUE[0])[0]
    assert off[Sign.LIKE] < there[Sign.LIKE] - 0.2 and off[Sign.BEGUN] < there[Sign.BEGUN] - 0.2
    assert off[Sign.USUAL] < -1 and off[Sign.LAST] < -1


def test_signs_of_a_mask_that_went_to_another_object() -> None:
    red, _ = signs_at(BLUE[0], BLUE[0])
    assert red[Sign.OTHER] > 0.99 > red[Sign.LIKE] + 0.1
    assert red[Sign.OWNED] in (0, 1)


def test_areas_have_bounds() -> None:
    signs = signs_at((40, 60, 41, 61), BLUE[0])
    assert -MOST_CHANGE <= signs[0, Sign.USUAL] < -2


# -- the shipped network


def test_an_object_that_goes_is_gone_and_one_that_stays_is_there() -> None:
    pipe = pipeline(discovery="off", confirm_frames=1, lost_after=3)
    whole, rest = scene(RED, BLUE), scene(BLUE)
    pipe.process(Frame(whole, 1))
    red, blue = (pipe.add_prompt(Prompt(mask=box(whole, place))) for place, _ in (RED, BLUE))
    for t in range(2, 6):
        answer = pipe.process(Frame(whole, t))
        assert all(find(answer, i).visibility > 0.5 for i in (red, blue))
    for t in range(6, 12):
        answer = pipe.process(Frame(rest, t))
        assert find(answer, blue).state == TrackState.CONFIRMED
    assert find(answer, red).state == TrackState.LOST


# -- training


def samples(count: int) -> torch.Tensor:
    """Masks are right where they look like their objects."""
    signs = torch.randn(count, len(Sign), generator=torch.Generator().manual_seed(0))
    right = (signs[:, Sign.LIKE] > 0).float()
    return torch.cat([signs * 3 + 2, right[:, None]], 1)


def test_what_tells_is_learned() -> None:
    torch.manual_seed(0)
    network = PresenceNet()
    fit(network, samples(2000), steps=300)
    assert not network.training
    assert torch.allclose(network.centre, torch.full((len(Sign),), 2.0), atol=0.3)
    fresh = samples(500)
    with torch.no_grad():
        right = ((network(fresh[:, :-1]) > 0) == (fresh[:, -1] > 0.5)).float().mean()
    assert right > 0.95
    assert rightness(network, fresh).startswith("held out: right of ")


def test_a_run_gathers_each_clip_once(
    pictures: Pictures, model: AffinityModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "FRAMES", 5)
    monkeypatch.setattr(presence, "CLIPS", 2)
    run = tmp_path / "run"
    train_presence(pictures, model, run, steps=2)
    first, _ = sorted(run.glob("clip_*.f32"))
    rows = np.fromfile(first, np.float32).reshape(-1, len(Sign) + 1)
    assert np.isfinite(rows).all() and (rows[:, -1] >= 0).all() and (rows[:, -1] <= 1).all()
    assert rows[:, -1].mean() > 0.5, "most masks are where they should be"
    with pytest.raises(FileExistsError, match="--resume"):
        train_presence(pictures, model, run, steps=2)
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(presence, "CLIPS", 3)
    network = train_presence(pictures, model, run, steps=2, resume=True)
    assert len(list(run.glob("clip_*.f32"))) == 3 and first.stat().st_mtime_ns == written
    assert network.state_dict().keys() == PresenceNet().state_dict().keys()
