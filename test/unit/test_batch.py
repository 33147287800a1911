"""The objects in hand on a frame: any number of them, none included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import shared_perception
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stages import discover, features
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import FrameFeatures
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.reid import embed
from sam2vss_ros.types import Frame
from streams import small_config

SIDE, POINTERS, CLASSES = 64, 64, 11


def squares(*places: tuple[int, int], score: float = 5.0) -> Tracked:
    """An object of 10 x 10 pixels at each x, y."""
    masks = torch.full((len(places), SIDE, SIDE), -5.0)
    for i, (x, y) in enumerate(places):
        masks[i, y : y + 10, x : x + 10] = score + i
    ones = torch.ones(len(places))
    slots = tuple(10 + i for i in range(len(places)))
    return Tracked(slots, masks, ones, ones, torch.zeros(len(places), POINTERS))


def batch_of(tracked: Tracked, first_id: int = 1) -> ObjectBatch:
    tracks = [
        Track(first_id + i, slot, ClassPosterior(CLASSES)) for i, slot in enumerate(tracked.slots)
    ]
    return ObjectBatch.of(tracks, tracked)


@pytest.fixture
def nobody() -> ObjectBatch:
    return batch_of(squares())


@pytest.fixture(scope="module")
def seen() -> FrameFeatures:
    perception = shared_perception(small_config())
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with perception.arithmetic():
        return features.extract(perception, Frame(image, 1), "fused")


def test_every_step_takes_nobody(nobody: ObjectBatch, seen: FrameFeatures) -> None:
    for batch in (
        nobody,
        nobody.take([]),
        nobody.visible(),
        nobody.without_overlaps(),
        nobody.embedded(seen),
        ObjectBatch.join([nobody]),
        ObjectBatch.join([nobody, nobody]),
        batch_of(squares((1, 1))).take([]),
    ):
        assert len(batch) == 0 and batch.tracks == () and batch.embeddings == ()
        assert batch.tracked.slots == () and batch.masks.shape == (0, SIDE, SIDE)
        assert batch.tracked.pointers.shape == (0, POINTERS)
        assert batch.explained().shape == (SIDE, SIDE) and not batch.explained().any()
        assert batch.coverage() == 0.0
        assert batch.posteriors(CLASSES).shape == (0, CLASSES)


def test_the_trackers_nobody_is_nobody() -> None:
    perception = shared_perception(small_config())
    tracker = perception.new_tracker(perception.stream_config(small_config()))
    batch = ObjectBatch.join([batch_of(tracker.nothing()), batch_of(squares((1, 1)))])
    assert len(batch) == 1 and batch.masks.shape == (1, SIDE, SIDE)


def test_nobody_joins_somebody(nobody: ObjectBatch) -> None:
    first, second = batch_of(squares((1, 1))), batch_of(squares((30, 30)), first_id=7)
    joined = ObjectBatch.join([nobody, first, nobody, second])
    assert [t.track_id for t in joined.tracks] == [1, 7] and len(joined.embeddings) == 2
    assert torch.equal(joined.masks, torch.cat([first.masks, second.masks]))


def test_taking_keeps_everything_in_one_order(seen: FrameFeatures) -> None:
    batch = batch_of(squares((0, 0), (20, 20), (40, 40))).embedded(seen)
    taken = batch.take([2, 0])
    assert [t.track_id for t in taken.tracks] == [3, 1] and taken.tracked.slots == (12, 10)
    assert torch.equal(taken.masks, batch.masks[[2, 0]])
    for embedding, i in zip(taken.embeddings, (2, 0), strict=True):
        assert embedding is batch.embeddings[i]


def test_the_visible_are_those_in_sight() -> None:
    batch = batch_of(squares((0, 0), (20, 20), (40, 40)))
    batch.tracks[1].missed = 1
    assert [t.track_id for t in batch.visible().tracks] == [1, 3]


def test_overlaps_go_to_the_strongest_and_the_rest_stays() -> None:
    batch = batch_of(squares((0, 0), (5, 0)))
    apart = batch.without_overlaps()
    assert apart.tracks == batch.tracks
    assert [int((mask > 0).sum()) for mask in apart.masks] == [50, 100]
    assert [int((mask > 0).sum()) for mask in batch.masks] == [100, 100], "as it was"
    assert apart.coverage() == batch.coverage() == 150 / SIDE**2


def test_embeddings_are_made_once(seen: FrameFeatures) -> None:
    known = batch_of(squares((0, 0), (20, 20))).embedded(seen)
    both = ObjectBatch.join([known, batch_of(squares((40, 40)))])
    assert [e is None for e in both.embeddings] == [False, False, True]
    again = both.embedded(seen)
    expected = embed(seen.image.pyramid, seen.colours, both.masks > 0)
    for i, embedding in enumerate(again.embeddings):
        assert embedding is not None
        torch.testing.assert_close(embedding, expected[i])
    assert all(a is b for a, b in zip(again.embeddings, known.embeddings, strict=False))
    assert again.embedded(seen) is again


def test_posteriors_are_in_the_order_of_the_objects() -> None:
    batch = batch_of(squares((0, 0), (20, 20)))
    batch.tracks[1].posterior.add(torch.eye(CLASSES)[4], keep=0.0)
    rows = batch.posteriors(CLASSES)
    torch.testing.assert_close(rows[0], torch.full((CLASSES,), 1 / CLASSES))
    torch.testing.assert_close(rows[1], torch.eye(CLASSES)[4])


def test_of_objects_with_one_mask_the_users_stay() -> None:
    """All of them: who asked for two people wants both, also while one walks past the other."""
    stream: Any = SimpleNamespace(objects=ObjectMemory(5))
    prompted = {1: False, 2: True, 3: True, 4: False, 5: False}
    tracks = [stream.objects.start(i, ClassPosterior(CLASSES), p) for i, p in prompted.items()]
    batch = ObjectBatch.of(tracks, squares((5, 5), (5, 5), (5, 5), (30, 30), (30, 30)))
    left = discover._drop_duplicates(stream, batch)
    assert [t.track_id for t in left.tracks] == [2, 3, 4]
    assert [t.track_id for t in stream.objects.all()] == [2, 3, 4]
