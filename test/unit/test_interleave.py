"""Steady objects rest on every second frame, and nobody else does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.interleave import Interleave, RestRule

RULE = RestRule(steady=0.85, small=0.5)
NOTHING = Tracked((), torch.zeros(0, 128, 128), torch.zeros(0), torch.zeros(0), torch.zeros(0, 4))


def squares(objects: list[int], shift: int = 0, side: int = 40) -> Tracked:
    """Squares of `side` pixels, `shift` pixels to the right, on 128 x 128; slots go backwards."""
    masks = torch.full((len(objects), 128, 128), -5.0)
    masks[:, 4 : 4 + side, 4 + shift : 4 + shift + side] = 5.0
    ones = torch.ones(len(objects))
    slots = tuple(90 - i for i in objects)
    return Tracked(slots, masks, ones, ones, torch.zeros(len(objects), 4))


def resting(interleave: Interleave, able: list[int], rule: RestRule | None = RULE) -> set[int]:
    objects, tracked = interleave.rest(able, rule)
    assert tracked.slots == tuple(90 - i for i in objects)
    return set(objects)


def seen_twice(objects: list[int], shift: int = 0, side: int = 40) -> Interleave:
    interleave = Interleave(NOTHING)
    for frame in range(2):
        assert not resting(interleave, objects), "nobody rests before two masks were compared"
        interleave.note(objects, squares(objects, shift * frame, side))
    return interleave


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_steady_object_is_followed_every_second_frame(count: int) -> None:
    objects = list(range(1, count + 1))
    interleave = seen_twice(objects)
    followed = []
    for _ in range(8):
        rests = resting(interleave, objects)
        followed.append([i not in rests for i in objects])
        interleave.note(objects, squares(objects))
    assert (np.add(followed[1:], followed[:-1]) == 1).all()
    assert np.abs(2 * np.sum(followed, 1) - count).max() <= 1, "half of them at a time"


def test_the_resting_ones_look_as_they_did() -> None:
    interleave = seen_twice([1, 2], shift=1)
    objects, tracked = interleave.rest([1, 2], RULE)
    assert objects == [1] and tracked.slots == (89,)
    assert torch.equal(tracked.masks, squares([1, 2], shift=1).masks[:1])


@pytest.mark.parametrize(
    ("shift", "side", "rests"),
    [(2, 40, True), (6, 40, False), (2, 8, True), (6, 8, False), (60, 40, False)],
    ids=["steady", "large and moving", "small and moving little", "small and fast", "fast"],
)
def test_what_moves_much_is_always_followed(shift: int, side: int, rests: bool) -> None:
    assert resting(seen_twice([1], shift, side), [1]) == ({1} if rests else set())


def test_the_caller_says_who_is_steady() -> None:
    interleave = seen_twice([1], shift=1)  # overlaps by 39 of 41 columns
    assert resting(interleave, [1], RestRule(steady=0.97)) == set()
    assert resting(interleave, [1], RestRule(steady=0.95)) == {1}
    assert resting(seen_twice([1]), [1], None) == set()


def test_a_moving_object_is_not_followed_less_for_steady_ones() -> None:
    objects = [1, 2, 3]
    interleave = Interleave(NOTHING)
    for frame in range(8):
        assert 2 not in resting(interleave, objects)
        now = squares(objects)
        now.masks[1] = squares([2], shift=15 * (frame % 2)).masks[0]
        interleave.note(objects, now)


def test_only_those_that_may_rest() -> None:
    assert resting(seen_twice([1, 2, 3]), [3]) == {3}


def test_who_takes_the_slot_of_another_is_not_taken_for_it() -> None:
    assert resting(seen_twice([1]), [2]) == set()


def test_no_object_at_all() -> None:
    interleave = Interleave(NOTHING)
    interleave.note([], NOTHING)
    assert not resting(interleave, [])


def test_a_frame_on_which_nobody_may_rest() -> None:
    """Where the stream breaks everybody is followed, or lost."""
    interleave = seen_twice([1, 2, 3])
    assert resting(interleave, [1, 2, 3]) == {1, 2}
    interleave.note([1, 2, 3], squares([1, 2, 3]))
    interleave.note([], NOTHING)
    interleave.note([4], squares([4]))
    interleave.note([4], squares([4]))
    assert resting(interleave, [4]) == {4}
