"""When a stream looks for new objects, and when it writes memories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.stream.budget import Effort
from sam2vss_ros.stream.schedule import SOON, MemorySchedule, SearchSchedule

FULL = Effort()
SHORT_OF_TIME = Effort(early_search=False, search_stretch=2, memory_stretch=2)


def searches(
    unexplained: list[float],
    config: PipelineConfig,
    effort: Effort = FULL,
    useful: bool = True,
    left: float = 0.6,
    novel: Sequence[float] = (),
    rate: float = 30.0,
) -> list[bool]:
    """Which frames are searched, by what is unexplained on each; a search leaves so much.

    novel: what of it looks like an object on each frame, nothing where that is not given. rate:
    frames a second.
    """
    schedule = SearchSchedule()
    schedule.searched(0, 0, left, 0.0)
    found = []
    shares = itertools.zip_longest(unexplained, novel, fillvalue=0.0)
    for index, (share, like_objects) in enumerate(shares, 1):
        stamp_ns = round(index / rate * 1e9)
        found.append(schedule.due(index, stamp_ns, share, like_objects, useful, config, effort))
        if found[-1]:
            schedule.searched(index, stamp_ns, share, like_objects)
    return found


@pytest.mark.parametrize(("effort", "interval"), [(FULL, 3), (SHORT_OF_TIME, 6)])
def test_a_search_once_in_every_interval(effort: Effort, interval: int) -> None:
    config = PipelineConfig(keyframe_interval=3, min_unexplained=1.0)
    found = searches([0.6] * 13, config, effort)
    assert found == [index % interval == 0 for index in range(1, 14)]


def test_new_is_measured_against_the_least_that_was_unexplained() -> None:
    """What discovery left over is not new, and what was explained since then is not old."""
    config = PipelineConfig(keyframe_interval=1000, min_unexplained=0.2)
    found = searches([0.7, 0.3, 0.4, 0.55, 0.55], config)
    assert found == [False, False, False, True, False]


def test_no_search_before_its_time_where_it_is_of_no_use() -> None:
    config = PipelineConfig(keyframe_interval=3, min_unexplained=0.01)
    assert searches([0.9] * 3, config, left=0.5) == [True, False, False]
    assert searches([0.9] * 3, config, useful=False, left=0.5) == [False, False, True]


def test_no_search_before_its_time_while_time_is_short() -> None:
    """And what is seen then is not held against what comes after."""
    config = PipelineConfig(keyframe_interval=1000, min_unexplained=0.2)
    schedule = SearchSchedule()
    schedule.searched(0, 0, 0.3, 0.0)
    assert not schedule.due(1, 0, 0.9, 0.0, True, config, SHORT_OF_TIME)
    assert not schedule.due(2, 0, 0.1, 0.0, True, config, SHORT_OF_TIME)
    assert not schedule.due(3, 0, 0.45, 0.0, True, config, FULL)
    assert schedule.due(4, 0, 0.55, 0.0, True, config, FULL)


def test_what_looks_like_an_object_is_looked_for_soon_but_not_at_once() -> None:
    """And once: what a search leaves is not new on the next frames."""
    config = PipelineConfig(keyframe_interval=1000, min_unexplained=1.0, min_area=0.01)
    novel = [0.0, 0.02] + [0.05] * 28
    assert searches([0.6] * 30, config, novel=novel).count(True) == 1
    assert searches([0.6] * 30, config, novel=novel)[SOON - 1]
    assert not any(searches([0.6] * 30, config, novel=[0.009] * 30))
    assert not any(searches([0.6] * 30, config, useful=False, novel=novel))
    assert not any(searches([0.6] * 30, config, SHORT_OF_TIME, novel=novel))


def test_frames_of_a_slow_camera_count_for_several() -> None:
    """More changes between them; but not where a search takes as long as many frames."""
    config = PipelineConfig(keyframe_interval=30, min_unexplained=1.0, min_area=0.01)
    once_a_second = [index % 3 == 0 for index in range(1, 13)]
    assert searches([0.6] * 12, config, rate=3.0) == once_a_second
    assert searches([0.6] * 12, config, SHORT_OF_TIME, rate=3.0) == [False] * 12
    assert searches([0.6] * 3, config, novel=[0.05] * 3, rate=3.0) == [True, False, False]
    grid = PipelineConfig(keyframe_interval=30, min_unexplained=1.0, discovery="grid")
    assert not any(searches([0.6] * 29, grid, rate=3.0))


@pytest.mark.parametrize(("effort", "interval"), [(FULL, 2), (SHORT_OF_TIME, 4)])
def test_every_memory_is_written_once_in_each_interval(effort: Effort, interval: int) -> None:
    schedule = MemorySchedule()
    config = PipelineConfig(memory_interval=2)
    for index in range(12):
        schedule.begin(index, [3, 5], config, effort)
        due = index % interval == 0
        assert (schedule.due(3), schedule.due(5), schedule.due(4)) == (due, due, False)
        schedule.written([3, 5])


def test_a_memory_that_could_not_be_written_stays_due() -> None:
    schedule = MemorySchedule()
    config = PipelineConfig(memory_interval=4)
    schedule.begin(0, [3, 5], config, FULL)
    schedule.written([5])
    for index in (1, 2):
        schedule.begin(index, [3, 5], config, FULL)
        assert schedule.due(3) and not schedule.due(5)
    schedule.written([3])
    schedule.begin(3, [3, 5], config, FULL)
    assert not schedule.due(3)


def test_what_is_followed_no_longer_is_due_no_longer() -> None:
    schedule = MemorySchedule()
    config = PipelineConfig(memory_interval=2)
    schedule.begin(0, [3, 5], config, FULL)
    schedule.begin(2, [5], config, FULL)
    assert not schedule.due(3) and schedule.due(5)
