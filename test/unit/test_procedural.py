"""Procedural video: the truth it gives is whole, consistent and repeatable."""

import tracemalloc
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.training.procedural import Clip, make_clip, street_video
from sam2vss_ros.training.procedural.street.street import Street
from sam2vss_ros.training.procedural.street.style import random_style

VOID = 11
SKY, BUILDING, ROAD, PAVEMENT, CAR, PEDESTRIAN, BICYCLIST = 0, 1, 3, 4, 8, 9, 10
SMALL = (120, 160)


def _visible(instances: npt.NDArray[np.uint16], at_least: int = 1) -> set[int]:
    return set(np.flatnonzero(np.bincount(instances.ravel()) >= at_least).tolist())


@pytest.mark.parametrize("kind", ["street", "abstract"])
def test_a_clip_is_its_seed(kind: str) -> None:
    first, again, other = (make_clip(seed, 3, (96, 128), kind) for seed in (5, 5, 6))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.instances, again.instances)
    assert np.array_equal(first.class_ids, again.class_ids)
    assert not np.array_equal(first.frames, other.frames)


def test_a_clip_does_not_depend_on_clips_made_before() -> None:
    fresh = make_clip(11, 2, (64, 64))
    for seed in range(20, 26):
        make_clip(seed, 2, (80, 64))
    again = make_clip(11, 2, (64, 64))
    assert np.array_equal(fresh.frames, again.frames)
    assert np.array_equal(fresh.instances, again.instances)


@pytest.mark.parametrize("kind", ["street", "abstract"])
@pytest.mark.parametrize("size", [(256, 256), (90, 161)])
def test_shapes_types_and_class_ids(kind: str, size: tuple[int, int]) -> None:
    clip = make_clip(3, 4, size, kind)
    assert clip.frames.shape == (4, *size, 3) and clip.frames.dtype == np.uint8
    assert clip.instances.shape == (4, *size) and clip.instances.dtype == np.uint16
    assert clip.class_ids.dtype == np.int64 and clip.class_ids.ndim == 1
    assert clip.instances.min() >= 1, "every pixel belongs to a region"
    assert clip.instances.max() < len(clip.class_ids)
    assert set(clip.class_ids.tolist()) <= set(range(-1, 11))
    assert clip.class_ids[0] == -1


@pytest.mark.parametrize("kind", ["street", "abstract"])
def test_a_region_keeps_its_id_from_frame_to_frame(kind: str) -> None:
    """Between two frames most pixels of a region that stays large stay where they were."""
    kept = []
    for seed in range(8):
        ids = make_clip(seed, 2, (128, 128), kind).instances
        for region in _visible(ids[0], 600) & _visible(ids[1], 600):
            a, b = ids[0] == region, ids[1] == region
            kept.append((a & b).sum() / (a | b).sum())
    assert len(kept) > 20
    assert np.median(kept) > 0.8


def test_a_region_looks_like_one() -> None:
    """Ids follow the picture: pixels next to each other differ more across a border of regions."""
    inside, across = [], []
    for seed in range(12):
        clip = make_clip(seed, 1, (128, 128), "street")
        frame, ids = clip.frames[0].astype(np.int32), clip.instances[0]
        step = np.abs(np.diff(frame, axis=1)).sum(2)
        border = ids[:, 1:] != ids[:, :-1]
        across.append(step[border].mean())
        inside.append(step[~border].mean())
    assert np.mean(across) > 2 * np.mean(inside)


def test_streets_show_all_classes() -> None:
    seen: set[int] = set()
    for seed in range(40):
        clip = make_clip(seed, 1, (128, 128), "street")
        seen |= set(clip.class_ids[sorted(_visible(clip.instances, 10))].tolist())
    assert seen >= set(range(11))


def _leaves_and_returns(clip: Clip) -> bool:
    """Whether something large is there, then not at all, then there again with its id."""
    shown = [_visible(ids, 30) for ids in clip.instances]
    whole = [_visible(ids) for ids in clip.instances]
    last = len(shown) - 1
    return any(shown[0] & shown[last] - whole[t] for t in range(1, last))


@pytest.mark.parametrize("kind", ["street", "abstract"])
def test_some_clips_have_objects_that_leave_and_return(kind: str) -> None:
    assert any(_leaves_and_returns(make_clip(seed, 4, (96, 96), kind)) for seed in range(60))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "indoor"}, "street, abstract"),
        ({"frames": 0}, "1 or more frames"),
        ({"size": (8, 256)}, "16..1024"),
        ({"size": (256, 2048)}, "16..1024"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_clip(0, **arguments)


def test_the_video_refuses_wrong_arguments_at_the_call() -> None:
    with pytest.raises(ValueError, match="1 or more frames"):
        street_video(0, 0)


def test_the_video_is_its_seed() -> None:
    for a, b in zip(street_video(4, 3, SMALL), street_video(4, 3, SMALL), strict=True):
        for x, y in zip(a, b, strict=True):
            assert isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
            assert np.array_equal(x, y)


@pytest.fixture(scope="module")
def drive() -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]]:
    """Every second frame of seven seconds of video, with labels and instances."""
    return list(islice(street_video(0, 200, SMALL), 0, None, 2))


def test_the_video_shows_a_street(drive: list) -> None:
    assert len(drive) == 100
    for frame, labels, instances in drive:
        assert frame.shape == (*SMALL, 3) and frame.dtype == np.uint8
        assert labels.shape == SMALL and labels.dtype == np.uint8
        assert instances.shape == SMALL and instances.dtype == np.uint16
        assert instances.min() >= 1
        assert labels.max() <= VOID
    seen = set(np.unique([labels for _, labels, _ in drive]).tolist())
    assert seen >= {SKY, BUILDING, ROAD, PAVEMENT, CAR, PEDESTRIAN}
    moved = np.abs(drive[0][0].astype(int) - drive[-1][0]).mean()
    assert moved > 5, "the camera drives"


def test_labels_agree_with_instances(drive: list) -> None:
    classes: dict[int, int] = {}
    for _, labels, instances in drive[::8]:
        for region in _visible(instances):
            values = np.unique(labels[instances == region])
            assert len(values) == 1, "one class per region"
            assert classes.setdefault(region, int(values[0])) == values[0], "for all time"


def test_objects_of_the_video_leave_and_some_return_with_their_id(drive: list) -> None:
    last_seen: dict[int, int] = {}
    returned = set()
    for i, (_, labels, instances) in enumerate(drive):
        objects = instances[np.isin(labels, (CAR, PEDESTRIAN, BICYCLIST))]
        for region in _visible(objects):
            if i - last_seen.get(region, i) >= 5:  # hidden for a third of a second
                returned.add(region)
            last_seen[region] = i
    gone = {region for region, at in last_seen.items() if at < len(drive) - 30}
    assert returned
    assert gone - returned


def test_a_street_without_end_needs_bounded_memory() -> None:
    """Two kilometres: what lies behind is forgotten and ids are not given twice meanwhile."""
    rng = np.random.default_rng(1)
    street = Street(rng, random_style(rng, natural=0.9, sight=60.0), (48, 64))
    held, given = [], set(street.classes)
    for step in range(400):
        street.advance(0.5, street.z + 5.0)
        held.append(len(street.things))
        given |= set(street.classes)
        if step > 10:
            assert all(thing.far_z() > street.z - 30 for thing in street.things)
        assert {thing.region for thing in street.things} <= set(street.classes)
    assert len(given) > 5 * max(held), "things came and went"
    assert max(held[200:]) < 2 * max(held[:50])


def test_the_video_keeps_no_frames() -> None:
    video = street_video(2, 100_000, (240, 320))
    next(video)
    tracemalloc.start()
    try:
        for _ in islice(video, 40):
            pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    all_frames = 40 * 240 * 320 * (3 + 1 + 2)
    assert kept < all_frames / 3
