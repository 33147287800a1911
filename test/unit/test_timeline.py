"""Where a frame belongs by its stamp, and what its stamp is worth."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sam2vss_ros.errors import ImageError
from sam2vss_ros.io.stamps import CaptureTimes, stand_still
from sam2vss_ros.stream.timeline import Place, Timeline

MS = 1_000_000


def places(milliseconds: Iterable[int], max_step_back: float = 1.0) -> str:
    """A letter for each stamp: N(ext), L(ate) or A(new)."""
    timeline = Timeline(max_step_back)
    letters = ""
    for stamp in milliseconds:
        place = timeline.place(stamp * MS)
        if place != Place.LATE:
            timeline.advance(stamp * MS)
        letters += place.name[0]
    return letters


def test_a_small_step_back_is_disorder() -> None:
    assert places([0, 33, 66, 63, 100]) == "NNNLN"
    assert places([0, 66, 33, 100]) == "NNLN", "two neighbours exchanged"
    assert places([1000, 990, 1033, 1023, 1066]) == "NLNLN"
    assert places([5000, 4000, 4001, 5001]) == "NLLN", "the limit is within"
    assert places([5000, 4990, 5000, 5001]) == "NLLN", "and so is the same once more"


def test_a_large_step_back_is_a_new_stream() -> None:
    assert places([5000, 3999, 4000]) == "NAN"
    assert places([5000, 4999], max_step_back=0.0) == "NA"
    assert places([5000, 4500, 5100], max_step_back=0.4) == "NAN"


def test_a_stamp_that_is_far_off_is_undone() -> None:
    assert places([0, 33, 9_000_000, 100, 133]) == "NNNNN"
    two_clocks = [t for i in range(5) for t in (33 * i, 9_000_000 + 33 * i)]
    assert places(two_clocks) == "N" * 10
    assert places([0, 33, 9000, 9033, 100]) == "NNNNA", "it is another clock for good"
    assert places([0, 33, 9000, 33, 66]) == "NNNAN", "a clip that loops"
    assert places([0, 33, 9000, 5000]) == "NNNA", "not where it was"


def test_a_clock_that_was_set_back_a_little_is_waited_for() -> None:
    clock = [*range(0, 3000, 33), *range(2100, 4000, 33)]
    found = places(clock)
    assert "A" not in found and found.count("L") == 27


def test_what_stays_late_is_a_new_stream() -> None:
    """A clip shorter than `max_step_back` that loops would never be answered again."""
    loop = [*range(0, 330, 33)] * 40
    found = places(loop)
    assert "L" * 40 not in found
    assert found.count("A") >= 9


def test_two_frames_with_one_stamp_are_refused() -> None:
    timeline = Timeline(1.0)
    timeline.advance(7)
    with pytest.raises(ValueError, match="two frames with stamp 7 ns"):
        timeline.place(7)


def times(stamps: Iterable[int], unstamped: bool = False) -> list[int | None]:
    """The times of images that come every 40 ms from 1,000,000 on; None where one is refused."""
    camera = CaptureTimes(unstamped)
    found: list[int | None] = []
    for i, stamp in enumerate(stamps):
        try:
            found.append(camera.of(stamp, 1_000_000 + 40 * i))
        except ImageError as error:
            assert error.reason == "stamp used twice"
            found.append(None)
    return found


def test_stamps_count_where_there_are_any() -> None:
    assert times([5, 9, 7, 12]) == [5, 9, 7, 12]
    assert times([0, 33, 66]) == [0, 33, 66], "a simulation begins at 0"
    assert times([5, 5, 9, 9, 5]) == [5, None, 9, None, 5]


def test_images_without_stamps_go_by_their_arrival() -> None:
    assert times([0, 0, 0, 0]) == [0, 40, 80, 120]
    assert times([5, 5, 5, 5, 300]) == [5, None, 85, 125, 300]
    assert times([100, 0, 190]) == [100, 140, 190], "one is missing"
    assert times([3, 3, 3], unstamped=True) == [1_000_000, 1_000_040, 1_000_080]


def test_arrivals_at_once_have_times_of_their_own() -> None:
    camera = CaptureTimes()
    assert [camera.of(0, 50) for _ in range(3)] == [0, 1, 2]
    assert camera.unstamped


def test_what_the_beginning_of_a_recording_tells() -> None:
    assert stand_still([0]) and stand_still([0, 0, 0]) and stand_still([4, 4, 4])
    assert not stand_still([]) and not stand_still([4, 4]) and not stand_still([0, 33, 66])
