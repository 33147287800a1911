"""The object memory: the life of an object from its first sight to its end."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.types import TrackState

CONFIG = PipelineConfig(max_objects=3, confirm_frames=3, lost_after=2, forget_after=4)


@pytest.fixture
def memory() -> ObjectMemory:
    return ObjectMemory(CONFIG.max_objects)


def born(memory: ObjectMemory, config: PipelineConfig = CONFIG) -> Track:
    """A new object, seen on its first frame."""
    track = memory.start(memory.new_id(), ClassPosterior(4))
    memory.find(track, config)
    return track


def look_at(
    memory: ObjectMemory,
    track: Track,
    area: int,
    visibility: float,
    config: PipelineConfig = CONFIG,
) -> None:
    """Let a frame pass on which the tracker finds so many pixels, and is so sure of them."""
    memory.rate(track, 0.8, visibility)
    memory.observe(track, area, config)


def watch(memory: ObjectMemory, track: Track, sights: str) -> list[TrackState]:
    """Let frames pass: + it is seen, . it is faint, - it is not. What is lost is not looked for."""
    states = []
    for sight in sights:
        memory.age_lost(CONFIG)
        if track.state != TrackState.LOST:
            area, visibility = {"+": (100, 0.9), ".": (10, 0.6), "-": (0, 0.1)}[sight]
            look_at(memory, track, area, visibility)
        states.append(track.state)
    return states


def confirmed(memory: ObjectMemory) -> Track:
    track = born(memory)
    assert watch(memory, track, "++")[-1] == TrackState.CONFIRMED
    return track


def test_an_object_is_confirmed_after_enough_sights(memory: ObjectMemory) -> None:
    track = born(memory)
    assert track.state == TrackState.TENTATIVE
    T, C = TrackState.TENTATIVE, TrackState.CONFIRMED  # noqa: N806
    assert watch(memory, track, "++") == [T, C]
    assert (track.age, track.seen, track.missed) == (2, 3, 0)


def test_one_sight_is_enough_where_one_is_asked_for() -> None:
    config = replace(CONFIG, confirm_frames=1)
    assert born(ObjectMemory(config.max_objects), config).state == TrackState.CONFIRMED


def test_a_tentative_object_that_vanishes_is_forgotten(memory: ObjectMemory) -> None:
    track = born(memory)
    watch(memory, track, "--")
    assert track.track_id in memory
    watch(memory, track, "-")
    assert track.track_id not in memory and memory.all() == [] and memory.room() == 3


def test_a_glimpse_keeps_a_tentative_object_alive(memory: ObjectMemory) -> None:
    track = born(memory)
    watch(memory, track, "--+--")
    assert track.track_id in memory and track.state == TrackState.TENTATIVE
    assert watch(memory, track, "+") == [TrackState.CONFIRMED]  # its third sight


def test_a_confirmed_object_is_occluded_then_lost_then_forgotten(memory: ObjectMemory) -> None:
    track = confirmed(memory)
    O, L = TrackState.OCCLUDED, TrackState.LOST  # noqa: E741, N806
    assert watch(memory, track, "---") == [O, O, L]
    assert memory.lost() == [track] and memory.active() == []
    watch(memory, track, "---")
    assert track.track_id in memory and track.missed == 6 and track.age == 8
    watch(memory, track, "-")
    assert track.track_id not in memory


def test_an_occluded_object_comes_back_confirmed(memory: ObjectMemory) -> None:
    track = confirmed(memory)
    assert watch(memory, track, "-+") == [TrackState.OCCLUDED, TrackState.CONFIRMED]
    assert track.missed == 0


def test_a_faint_glimpse_does_not_bring_an_occluded_object_back(memory: ObjectMemory) -> None:
    track = confirmed(memory)
    O, C = TrackState.OCCLUDED, TrackState.CONFIRMED  # noqa: E741, N806
    assert watch(memory, track, "....") == [C] * 4, "what is in sight stays"
    assert watch(memory, track, "-.-") == [O, O, TrackState.LOST]
    other = confirmed(memory)
    assert watch(memory, other, "-.+") == [O, O, C], "clear at once"


def test_a_faint_object_is_back_when_it_stays(memory: ObjectMemory) -> None:
    track = confirmed(memory)
    config = replace(CONFIG, lost_after=5)
    states = []
    for area in (0, 10, 10, 10):  # confirm_frames is 3
        look_at(memory, track, area, 0.9, config)
        states.append(track.state)
    assert states == [TrackState.OCCLUDED] * 3 + [TrackState.CONFIRMED]


@pytest.mark.parametrize(
    ("area", "visibility", "back"), [(30, 0.9, 1), (10, 0.9, 0), (100, 0.6, 0)]
)
def test_clear_is_large_and_certain(
    memory: ObjectMemory, area: int, visibility: float, back: bool
) -> None:
    track = confirmed(memory)
    watch(memory, track, "-")
    look_at(memory, track, area, visibility)
    assert (track.state == TrackState.CONFIRMED) == back


def test_a_ghost_of_one_frame_is_never_confirmed(memory: ObjectMemory) -> None:
    track = born(memory)
    states = watch(memory, track, "-.-")
    assert TrackState.CONFIRMED not in states and track.track_id not in memory


def test_a_lost_object_is_revived_by_its_embedding(memory: ObjectMemory) -> None:
    track, other = confirmed(memory), confirmed(memory)
    track.embedding, other.embedding = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    watch(memory, track, "---")
    embedding = torch.tensor([[0.9, 0.19**0.5]])
    assert memory.recognise(embedding, CONFIG) == [track]
    assert memory.recognise(embedding, replace(CONFIG, revive_similarity=0.95)) == [None]
    assert memory.recognise(torch.tensor([[0.0, 1.0]]), CONFIG) == [None], "that one is in sight"
    memory.find(track, CONFIG)
    assert track.state == TrackState.CONFIRMED and track.missed == 0 and track in memory.active()


def test_each_lost_object_is_recognised_once(memory: ObjectMemory) -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    tracks = [confirmed(memory), confirmed(memory)]
    for track, embedding in zip(tracks, embeddings, strict=True):
        track.embedding = embedding
        watch(memory, track, "-")
    seen = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.96, 0.28]])
    assert memory.recognise(seen, CONFIG) == [None, tracks[1], tracks[0]]
    assert memory.recognise(seen[:0], CONFIG) == []


def test_an_object_without_an_embedding_is_not_recognised(memory: ObjectMemory) -> None:
    watch(memory, confirmed(memory), "-")
    assert memory.recognise(torch.ones(1, 2), CONFIG) == [None]


def test_embeddings_are_averaged_over_frames(memory: ObjectMemory) -> None:
    track = born(memory)
    memory.learn(track, torch.tensor([1.0, 0.0]))
    watch(memory, track, "+")
    memory.learn(track, torch.tensor([0.0, 1.0]))
    assert track.embedding is not None
    torch.testing.assert_close(track.embedding, torch.tensor([0.5, 0.5]))
    watch(memory, track, "+" * 30)
    memory.learn(track, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(track.embedding, torch.tensor([0.55, 0.45]))


def test_a_tentative_object_that_is_found_again_is_still_on_trial(memory: ObjectMemory) -> None:
    track = born(memory)
    watch(memory, track, "-")
    memory.find(track, CONFIG)
    assert track.state == TrackState.TENTATIVE


def test_a_full_memory_refuses(memory: ObjectMemory) -> None:
    for _ in range(3):
        confirmed(memory)
    assert memory.room() == 0 and len(memory) == 3
    with pytest.raises(IndexError, match="full"):
        memory.start(memory.new_id(), ClassPosterior(4))
    assert len(memory) == 3


def test_the_longest_lost_gives_way(memory: ObjectMemory) -> None:
    first, second, third = (confirmed(memory) for _ in range(3))
    watch(memory, second, "---")
    watch(memory, third, "---")  # frames go by for the second as well
    assert memory.room() == 2
    added = born(memory)
    assert second.track_id not in memory and added.slot == second.slot
    assert {first.track_id, third.track_id} <= {t.track_id for t in memory.all()}


def test_slots_are_never_shared(memory: ObjectMemory) -> None:
    for _ in range(20):
        if memory.room():
            born(memory)
        else:
            memory.remove(memory.all()[1].track_id)
        slots = [t.slot for t in memory.all()]
        assert len(set(slots)) == len(slots) and set(slots) <= {0, 1, 2}


def test_ids_are_never_used_twice(memory: ObjectMemory) -> None:
    ids = []
    for _ in range(10):
        ids += [born(memory).track_id for _ in range(3)]
        memory.clear()
        assert len(memory) == 0 and memory.room() == 3
    assert ids == list(range(1, 31))


def test_ids_from_many_threads_are_unique(memory: ObjectMemory) -> None:
    ids: list[int] = []
    threads = [
        threading.Thread(target=lambda: ids.extend([memory.new_id() for _ in range(500)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(1, 2001))
