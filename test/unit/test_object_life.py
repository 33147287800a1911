"""When the pipeline looks for objects, and what becomes of them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines import sam2_tracker
from sam2vss_ros.sam2.functional import ImageFeatures
from sam2vss_ros.sam2.options import RestRule, TrackingOptions
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt, TrackedObject, TrackState
from small_sam2 import SMALL_SAM2
from streams import Eyes, assert_consistent, box, find, ids, pipeline, run

# -- discovery


def test_a_search_every_so_many_frames(street: npt.NDArray[np.uint8]) -> None:
    results = run(pipeline(keyframe_interval=3, max_objects=2), street[:7])
    assert [r.keyframe for r in results] == [True, False, False, True, False, False, True]


def test_a_search_before_its_time_where_much_is_unexplained(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for least, early in ((0.02, True), (1.0, False)):
        pipe = pipeline(keyframe_interval=1000, min_unexplained=least)
        eyes = Eyes(pipe, monkeypatch)
        first = pipe.process(Frame(street[0], 1))
        assert first.coverage > 0.02, "the test needs something that can get lost"
        eyes.shut = True
        assert pipe.process(Frame(street[0], 2)).keyframe is early


def test_no_search_before_its_time_where_nobody_can_be_added_or_recognised(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=2, keyframe_interval=3, min_unexplained=0.01)
    eyes = Eyes(pipe, monkeypatch)
    first = pipe.process(Frame(street[0], 1))
    assert first.coverage < 0.95, "the test needs something that is not explained"
    pipe.stream.search.searched(0, 1, 0.0, 0.0)  # as if it were new
    assert not pipe.process(Frame(street[0], 2)).keyframe, "both places are taken"
    eyes.shut = True
    assert pipe.process(Frame(street[0], 3)).keyframe, "somebody may be found again"


def test_a_long_stream_that_was_never_reset(street: npt.NDArray[np.uint8]) -> None:
    """Counters as after years at 30 frames a second: nothing overflows or loses precision."""
    pipe = pipeline(keyframe_interval=4, memory_interval=2)
    now = 5_000_000_000_000_000_000
    first = run(pipe, street[:2], start=now)[-1]
    late = 1 << 40
    pipe.stream.frames += late
    pipe.stream.search._last += late
    pipe.stream.objects._ids = itertools.count(pipe.stream.objects.new_id() + late)
    for track in pipe.stream.objects.all():
        track.age += late
        track.seen += late
    results = run(pipe, street[2:10], start=now + 2)
    assert [r.keyframe for r in results] == [False, False, True, False, False, False, True, False]
    assert set(ids(first)) <= set(ids(results[0]))
    for result, image in zip(results, street[2:], strict=False):
        assert_consistent(result, image, pipe)
        assert not result.time_jump
    assert find(results[0], min(ids(first))).age > late


def test_no_objects_but_those_asked_for_where_discovery_is_off(
    street: npt.NDArray[np.uint8],
) -> None:
    pipe = pipeline(discovery="off", keyframe_interval=1)
    for result, image in zip(run(pipe, street[:3]), street, strict=False):
        assert not result.objects and not result.keyframe and result.coverage == 0
        assert_consistent(result, image, pipe)


def test_the_grid_finds_what_passes_its_thresholds(street: npt.NDArray[np.uint8]) -> None:
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    grid = {"model": SMALL_SAM2, "discovery": "grid", "points_per_side": 4, "min_area": 0.0}
    pipe = pipeline(**grid, keyframe_interval=1)
    pipe.reconfigure(pred_iou_thresh=1.0)
    assert not pipe.process(Frame(street[0], 1)).objects
    pipe.reconfigure(**loose, stability_score_offset=0.0)
    result = pipe.process(Frame(street[1], 2))
    assert result.objects, "the source must have heard of the change"
    assert_consistent(result, street[1], pipe)


def test_the_memory_holds_no_more_than_asked(street: npt.NDArray[np.uint8]) -> None:
    for most in (1, 3):
        pipe = pipeline(max_objects=most, keyframe_interval=1, min_area=0.0)
        assert [len(r.objects) for r in run(pipe, street[:4])] == [most] * 4


# -- the life of objects


def test_ids_are_never_used_twice(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects vanish and others are found, again and again; the life of an id has no gap."""
    pipe = pipeline(keyframe_interval=2, lost_after=1, forget_after=1, revive_similarity=1.0)
    eyes = Eyes(pipe, monkeypatch)
    seen: list[set[int]] = []
    for t, image in enumerate(np.concatenate([street, street[::-1]])):
        eyes.shut = t % 8 >= 4
        seen.append(set(ids(pipe.process(Frame(image, t + 1)))))
    everybody = set().union(*seen)
    assert len(everybody) > 8
    for track_id in everybody:
        frames = [t for t, present in enumerate(seen) if track_id in present]
        assert frames == list(range(frames[0], frames[-1] + 1))
    assert everybody == set(range(1, len(everybody) + 1))


def test_an_object_is_confirmed_occluded_lost_and_forgotten(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(discovery="off", confirm_frames=1, lost_after=2, forget_after=3)
    eyes = Eyes(pipe, monkeypatch)
    still = street[0]
    pipe.process(Frame(still, 1))
    track_id = pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
    results = run(pipe, np.stack([still] * 2), start=2)
    eyes.shut = True
    results += run(pipe, np.stack([still] * 7), start=4)
    states = [o.state for r in results for o in r.objects if o.track_id == track_id]
    C, O, L = TrackState.CONFIRMED, TrackState.OCCLUDED, TrackState.LOST  # noqa: E741, N806
    assert states == [C, C, O, O, L, L, L]
    hidden = [find(r, track_id) for r in results[2:7]]
    assert [o.frames_since_seen for o in hidden] == [1, 2, 3, 4, 5]
    for o in hidden:
        assert o.box == (0, 0, 0, 0) and o.mask.shape == (0, 0) and o.area == 0
        assert o.visibility < 0.01 or o.state == L
    assert results[-1].objects == ()
    assert all(r.coverage == 0 for r in results[2:])


def test_what_no_longer_looks_like_the_object_is_not_it(
    street: npt.NDArray[np.uint8],
) -> None:
    """The tracker goes on to see something in its place; the memory is not taught that."""
    pipe = pipeline(
        model=SMALL_SAM2, discovery="off", confirm_frames=1, lost_after=2, engine="exact"
    )
    pipe.process(Frame(street[0], 1))
    kept = pipe.add_prompt(Prompt(mask=box(0, 66, 128, 96)))
    changed = pipe.add_prompt(Prompt(mask=box(20, 0, 80, 40)))
    before = run(pipe, np.stack([street[0]] * 3), start=2)[-1]
    assert find(before, kept).area and find(before, changed).area
    image = street[0].copy()
    image[:40, 20:80] = (30, 160, 30)
    bank = sam2_tracker(pipe).bank
    (slot,) = [t.slot for t in pipe.stream.objects.all() if t.track_id == changed]
    remembered = bank.recall([slot])[0].memories
    results = run(pipe, np.stack([image] * 3), start=5)
    assert not results[0].scene_cut and not results[0].time_jump
    states = [find(r, changed).state for r in results]
    assert states == [TrackState.OCCLUDED, TrackState.OCCLUDED, TrackState.LOST]
    assert torch.equal(bank.recall([slot])[0].memories, remembered)
    assert find(results[-1], kept).area


def test_a_lost_object_comes_back_with_its_id(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=1, keyframe_interval=6, lost_after=2, confirm_frames=1)
    eyes = Eyes(pipe, monkeypatch)
    still = street[0]
    first = pipe.process(Frame(still, 1))
    (track_id,) = ids(first)
    eyes.shut = True
    gone = run(pipe, np.stack([still] * 5), start=2)[-1]
    assert find(gone, track_id).state == TrackState.LOST
    eyes.shut = False
    back = pipe.process(Frame(still, 7))  # the next keyframe
    assert back.keyframe and ids(back) == [track_id]
    returned = find(back, track_id)
    assert returned.state == TrackState.CONFIRMED and returned.frames_since_seen == 0
    assert returned.box == find(first, track_id).box and returned.age == 6


def test_something_else_in_its_place_is_another_object(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=1, keyframe_interval=6, lost_after=2, revive_similarity=0.999)
    eyes = Eyes(pipe, monkeypatch)
    (track_id,) = ids(pipe.process(Frame(street[0], 1)))
    eyes.shut = True
    run(pipe, np.stack([street[0]] * 5), start=2)
    eyes.shut = False
    negative = 255 - street[0][::-1, ::-1]
    other = pipe.process(Frame(negative, 7))
    assert other.keyframe and ids(other) == [track_id + 1], "the lost one gave its place"


# -- rest


def test_who_rests_moves_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera pans over a picture: masks go with it, whether their objects are followed or not,
    and each is followed again in time."""
    pan, frames, rule = 2, 10, RestRule(agreement=0.6, turns=3)
    clip = make_clip(12, 1, (96, 128 + pan * frames), kind="street")
    picture = clip.frames[0]
    views = [np.ascontiguousarray(picture[:, pan * t : pan * t + 128]) for t in range(frames)]
    pipe = pipeline(model=SMALL_SAM2, engine="exact", discovery="off")
    pipe.process(Frame(views[0], 1))
    for car in (24, 46, 55):
        pipe.add_prompt(Prompt(mask=clip.instances[0, :, :128] == car))
    tracker = sam2_tracker(pipe)
    tracker.options = TrackingOptions(rest=rule)
    asked: list[list[int]] = []
    step = tracker.step

    def whole(o: TrackedObject) -> bool:
        return o.box[0] > 0 and o.box[0] + o.box[2] < 128

    def middle(o: TrackedObject) -> float:
        return o.box[0] + o.box[2] / 2

    def noted_step(features: ImageFeatures, slots: list[int], flow: Flow | None) -> Tracked:
        asked.append(slots)
        return step(features, slots, flow)

    monkeypatch.setattr(tracker, "step", noted_step)
    before: dict[int, TrackedObject] = {}
    moves: list[float] = []
    waited = Counter[int]()
    for t, view in enumerate(views):
        now = {o.track_id: o for o in pipe.process(Frame(view, t + 2)).objects if o.area}
        for track in pipe.stream.objects.active():
            i = track.track_id
            waited[i] = 0 if track.slot in asked[-1] else waited[i] + 1
            if waited[i] and i in now and i in before and whole(now[i]) and whole(before[i]):
                moves.append(middle(now[i]) - middle(before[i]))
        assert max(waited.values(), default=0) < rule.turns
        before = now
    assert len(moves) >= frames, "the test needs somebody who rests"
    assert np.median(moves) == pytest.approx(-pan, abs=0.5)
