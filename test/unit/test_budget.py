"""The frame-time budget: when it leaves out what, and that no object is lost by it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines import open_pipeline, perception_with
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional, policy
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.stages import features
from sam2vss_ros.stream import budget
from sam2vss_ros.stream.budget import (
    DEGRADED,
    MOST_PATIENCE,
    PATIENCE,
    REST,
    WINDOW,
    Budget,
    Effort,
    Level,
)
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, SemanticFrame
from small_sam2 import SMALL_SAM2

FPS = 10.0
SLOW, RIGHT, QUICK = 0.12, 0.09, 0.05  # seconds: beyond the target, within it, with room

# -- the level


def observe(state: Budget, seconds: float, frames: int) -> list[int]:
    """The level after each of so many frames that all take the same time."""
    levels = []
    for _ in range(frames):
        state.observe(seconds)
        levels.append(int(state.level))
    return levels


def test_without_a_target_nothing_is_left_out() -> None:
    state = Budget(0.0)
    assert set(observe(state, 1e9, 100)) == {0}
    assert state.effort() == Effort()


def test_one_level_for_each_window_of_slow_frames() -> None:
    state = Budget(FPS)
    levels = observe(state, SLOW, 5 * WINDOW)
    assert [levels.index(i) + 1 for i in Level if i] == [i * WINDOW for i in range(1, 5)]
    assert levels[-1] == max(Level)


def test_the_words_follow_the_levels() -> None:
    state, words = Budget(FPS), list(DEGRADED.values())
    assert len(words) == max(Level)
    for i in Level:
        assert state.effort().degraded == tuple(words[:i])
        observe(state, SLOW, WINDOW)


def test_late_is_what_is_slow_even_at_the_last_level() -> None:
    state = Budget(FPS)
    for _ in Level:
        assert not state.effort().late
        observe(state, SLOW, WINDOW)
    assert state.effort().late
    observe(state, RIGHT, WINDOW)
    assert not state.effort().late and state.level == max(Level)


def test_one_hiccup_changes_nothing() -> None:
    state = Budget(FPS)
    for seconds in [RIGHT - 0.01] * 20 + [30.0] + [RIGHT - 0.01] * 20:
        state.observe(seconds)
        assert state.level == Level.NOTHING


def test_between_room_and_target_every_level_stays() -> None:
    state = Budget(FPS)
    for level in Level:
        assert set(observe(state, RIGHT, 4 * PATIENCE)) == {level}
        while state.level == level < max(Level):
            state.observe(SLOW)


def test_levels_are_taken_back_one_by_one_with_patience() -> None:
    state = Budget(FPS)
    observe(state, SLOW, 5 * WINDOW)
    levels = observe(state, QUICK, 500)
    assert sorted(levels, reverse=True) == levels and levels[-1] == 0
    held = Counter(levels)
    assert min(held[level] for level in Level) >= PATIENCE
    assert sum(held[level] for level in Level if level) <= 4 * (PATIENCE + WINDOW) + WINDOW


def test_a_recovery_that_does_not_last_is_tried_less_and_less_often() -> None:
    state = Budget(FPS)
    levels = []
    for _ in range(3000):  # two levels are needed, and leave room
        state.observe(SLOW if state.level < 2 else QUICK)
        levels.append(int(state.level))
    tried = [i for i in range(1, len(levels)) if levels[i] < levels[i - 1]]
    waits = np.diff(tried)
    assert waits[0] > PATIENCE and (waits[:2] * 1.5 < waits[1:3]).all()
    assert waits[-1] <= MOST_PATIENCE + 3 * WINDOW
    assert np.mean(np.array(levels[1000:]) < 2) < 0.05
    assert max(levels) == 2


def test_a_recovery_that_lasts_makes_it_patient_as_before() -> None:
    state = Budget(FPS)
    for _ in range(1500):
        state.observe(SLOW if state.level < 2 else QUICK)
    observe(state, QUICK, 2000)
    assert state.level == Level.NOTHING
    observe(state, SLOW, WINDOW)
    levels = observe(state, QUICK, PATIENCE + WINDOW)
    assert levels[-1] == 0


# -- the pipeline, on a clock that the test moves


class SlowCamera:
    """A pipeline that sees one picture again and again, and takes as long as the test says.

    `asked` and `written` are the slots that were followed and written to memory, frame by frame.
    """

    def __init__(self, patch: pytest.MonkeyPatch, **options: object) -> None:
        patch.setattr(budget, "WINDOW", 2)
        patch.setattr(budget, "PATIENCE", 3)
        patch.setattr(policy, "LEAST_IOU", 0.0)  # every mask is worth remembering
        self.seconds, self._now, self._stamp = 0.0, 0.0, 0
        defaults = {"device": "cpu", "max_objects": 4, "min_unexplained": 1.0, "target_fps": FPS}
        # A SAM 2, whose objects may rest; with the engine fast they do at any level.
        defaults |= {"model": SMALL_SAM2, "engine": "exact"}
        config = PipelineConfig.from_mapping(defaults | options)
        self.pipe = open_pipeline(config, seconds=lambda: self._now)
        self.image = make_clip(11, 1, (96, 128), kind="street").frames[0]
        self.asked: list[list[int]] = []
        self.written: list[list[int]] = []
        step, commit = self.pipe.stream.tracker.step, self.pipe.stream.tracker.commit
        # One picture needs to be encoded but once.
        frame = Frame(self.image, 0)
        extract = functools.cache(functools.partial(features.extract, self.pipe.perception, frame))
        patch.setattr(features, "extract", lambda perception, frame, mode, *_: extract(mode))

        def slow_step(image: functional.ImageFeatures, slots: list[int], *flow: Any) -> Tracked:
            self._now += self.seconds
            self.asked.append(slots)
            self.written.append([])
            return step(image, slots, *flow)

        def noted_commit(image: functional.ImageFeatures, tracked: Tracked) -> None:
            self.written[-1].extend(tracked.slots)
            commit(image, tracked)

        patch.setattr(self.pipe.stream.tracker, "step", slow_step)
        patch.setattr(self.pipe.stream.tracker, "commit", noted_commit)

    def see(self, seconds: float, frames: int = 1) -> list[SemanticFrame]:
        self.seconds = seconds
        results = []
        for _ in range(frames):
            self._stamp += 1
            results.append(self.pipe.process(Frame(self.image, self._stamp)))
        return results

    def slow_down_to(self, level: Level) -> SemanticFrame:
        for seconds in [RIGHT] + [SLOW] * 20:
            (result,) = self.see(seconds)
            if len(result.degraded) == level:
                return result
        raise AssertionError(f"level {level} was not reached")


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SlowCamera]:
    return lambda **options: SlowCamera(monkeypatch, **options)


def visible(result: SemanticFrame) -> set[int]:
    return {o.track_id for o in result.objects if o.area}


def test_it_degrades_keeps_every_object_and_recovers(camera: Callable[..., SlowCamera]) -> None:
    slow = camera()
    before = slow.see(RIGHT, 4)[-1]
    assert before.degraded == () and len(visible(before)) >= 3
    results = slow.see(SLOW, 12) + slow.see(QUICK, 17)
    levels = [len(r.degraded) for r in results]
    assert max(levels) == Level.INTERLEAVE and levels[-1] == 0, (
        "this model's images are not carried"
    )
    assert np.abs(np.diff(levels)).max() == 1, "one level at a time"
    ages = {o.track_id: o.age for o in before.objects}
    for i, result in enumerate(results, 1):
        assert result.degraded == tuple(DEGRADED.values())[: len(result.degraded)]
        assert visible(result) == visible(before), "objects are kept, and shown"
        assert {o.track_id: o.age for o in result.objects} == {k: v + i for k, v in ages.items()}
        assert all(o.frames_since_seen == 0 for o in result.objects)
    late = [i for i, result in enumerate(results, 1) if result.late]
    assert late == list(range(8, 14)), "slow with all left out, told until a frame is not"


def test_resting_objects_keep_their_mask_and_take_turns(camera: Callable[..., SlowCamera]) -> None:
    """In a picture that stands still."""
    slow = camera()
    slow.slow_down_to(Level.INTERLEAVE)
    everybody = {t.slot for t in slow.pipe.stream.objects.active()}
    before = slow.see(SLOW, REST.turns)[-1]
    for _ in range(2 * REST.turns):
        (result,) = slow.see(SLOW)
        followed = set(slow.asked[-1])
        assert followed < everybody, "somebody rests"
        assert set().union(*slow.asked[-REST.turns :]) == everybody
        slots = {t.track_id: t.slot for t in slow.pipe.stream.objects.all()}
        masks = {o.track_id: o for o in before.objects}
        for o in result.objects:
            if slots[o.track_id] in followed:
                continue
            last = masks[o.track_id]
            # What others do not take of it is as before.
            assert o.box[:2] == pytest.approx(last.box[:2], abs=8)
            assert o.area == pytest.approx(last.area, rel=0.3)
        before = result


@pytest.mark.parametrize("interval", [1, 2])
def test_memory_is_written_half_as_often_to_everybody(
    camera: Callable[..., SlowCamera], interval: int
) -> None:
    slow = camera(memory_interval=interval)
    for level, period in ((Level.NOTHING, interval), (Level.MEMORY, 2 * interval)):
        slow.slow_down_to(level)
        slow.see(QUICK)  # makes up for the last slow one, so that the level stays
        slow.see(RIGHT, 2 * interval)
        del slow.written[:]
        results = slow.see(RIGHT, 4 * interval)
        assert {len(result.degraded) for result in results} == {level}
        counts = Counter(slot for slots in slow.written for slot in slots)
        everybody = {t.slot for t in slow.pipe.stream.objects.active()}
        assert counts == dict.fromkeys(everybody, 4 * interval // period)
    slow.slow_down_to(Level.INTERLEAVE)
    slow.see(RIGHT, REST.turns)
    del slow.written[:]
    slow.see(RIGHT, 4 * REST.turns)
    counts = Counter(slot for slots in slow.written for slot in slots)
    assert counts.keys() == everybody
    assert min(counts.values()) >= 3 and max(counts.values()) <= 8


def test_new_objects_are_looked_for_half_as_often(camera: Callable[..., SlowCamera]) -> None:
    slow = camera(keyframe_interval=3)
    found = [r.keyframe for r in slow.see(RIGHT, 7)]
    assert found == [True, False, False, True, False, False, True]
    slow.slow_down_to(Level.DISCOVERY)
    keyframes = [i for i, r in enumerate(slow.see(RIGHT, 13)) if r.keyframe]
    assert len(keyframes) == 2 and np.diff(keyframes) == [6]


def test_what_is_unexplained_waits_while_time_is_short(camera: Callable[..., SlowCamera]) -> None:
    slow = camera(keyframe_interval=100, min_unexplained=0.005)
    (first,) = slow.see(RIGHT)
    for level, searches in ((Level.NOTHING, True), (Level.DISCOVERY, False)):
        result = slow.slow_down_to(level)
        largest = max(result.objects, key=lambda o: o.area)
        assert largest.area > 0.0125 * first.label_image.size
        assert slow.pipe.remove_object(largest.track_id)
        assert slow.see(RIGHT)[0].keyframe == searches


def test_without_target_nothing_changes_however_slow(camera: Callable[..., SlowCamera]) -> None:
    slow = camera(target_fps=0.0)
    results = slow.see(1000.0, 8)
    assert not any(r.degraded or r.late for r in results)
    assert all(len(slots) == len(slow.asked[1]) for slots in slow.asked[1:])


def test_the_target_changes_while_it_runs(camera: Callable[..., SlowCamera]) -> None:
    slow = camera()
    slow.slow_down_to(Level.INTERLEAVE)
    slow.see(SLOW, 3)
    slow.pipe.reconfigure(target_fps=0.0)
    (result,) = slow.see(SLOW)
    assert result.degraded == () and not result.late
    assert len(slow.asked[-1]) == len(slow.pipe.stream.objects.active())
    slow.pipe.reconfigure(target_fps=FPS)
    assert slow.slow_down_to(Level.INTERLEAVE).degraded


def test_reset_and_removal_while_objects_rest(camera: Callable[..., SlowCamera]) -> None:
    slow = camera()
    slow.slow_down_to(Level.INTERLEAVE)
    before = slow.see(SLOW, 4)[-1]
    slots = {t.slot: t.track_id for t in slow.pipe.stream.objects.active()}
    gone = next(slots[slot] for slot in slots if slot not in slow.asked[-1])
    assert slow.pipe.remove_object(gone)
    (after,) = slow.see(SLOW)
    assert visible(after) == visible(before) - {gone}
    slow.pipe.reset()
    (anew,) = slow.see(SLOW)
    assert anew.keyframe and visible(anew) and not visible(anew) & visible(before)
    slow.see(SLOW, 3)


# -- mode network, where there is nothing to leave out


class SlowNetwork:
    """A network that is as sure of every class, and takes as long as the test says."""

    name = "slow"
    catalog = load_catalog("camvid")

    def __init__(self) -> None:
        self.seconds, self.now = 0.0, 0.0

    def accepts(self, frame: Frame) -> bool:
        return True

    def log_probabilities(self, frame: Frame) -> Tensor:
        self.now += self.seconds
        return torch.zeros(len(self.catalog), 8, 8).log_softmax(0)


def answers(target_fps: float, seconds: list[float], elsewhere: float = 0.0) -> list[SemanticFrame]:
    """Frames of mode network that take so long each; none leaves anything out."""
    network = SlowNetwork()
    config = PipelineConfig(device="cpu", mode="network", target_fps=target_fps)
    pipe = VssPipeline(perception_with(network, config), config, seconds=lambda: network.now)
    image, results = np.zeros((8, 8, 3), np.uint8), []
    for stamp, network.seconds in enumerate(seconds):
        results.append(pipe.process(Frame(image, stamp), elsewhere=elsewhere))
        assert results[-1].degraded == () and pipe.stream.budget.level == Level.NOTHING
        assert sum(results[-1].timings_ms.values()) == pytest.approx(1e3 * network.seconds)
    return results


def test_a_slow_network_alone_is_late_and_nothing_else() -> None:
    found = [r.late for r in answers(FPS, [SLOW] * (2 * WINDOW) + [QUICK] * WINDOW)]
    first, last = found.index(True), len(found) - found[::-1].index(True) - 1
    assert first == WINDOW, "told once a window of frames was seen"
    assert all(found[first : last + 1]) and 2 * WINDOW <= last < 3 * WINDOW - 1


@pytest.mark.parametrize(("target_fps", "seconds"), [(0.0, SLOW), (0.0, 100.0), (FPS, RIGHT)])
def test_a_network_that_keeps_its_target_is_never_late(target_fps: float, seconds: float) -> None:
    assert not any(r.late for r in answers(target_fps, [seconds] * (3 * WINDOW)))


@pytest.mark.parametrize("elsewhere", [SLOW - QUICK, RIGHT - QUICK])
def test_what_other_cameras_take_counts_against_the_target(elsewhere: float) -> None:
    found = [r.late for r in answers(FPS, [QUICK] * (WINDOW + 1), elsewhere)]
    assert found == [False] * WINDOW + [elsewhere > RIGHT - QUICK]
