"""Objects whose masks the flow carries rest in turn; whoever is in doubt is followed at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sam2vss_ros.sam2.options import RestRule
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.interleave import Interleave, turns_now
from sam2vss_ros.stream.motion import Flow

SIDE = 128
RULE = RestRule(agreement=0.9, turns=3)
NOTHING = Tracked((), torch.zeros(0, SIDE, SIDE), torch.zeros(0), torch.zeros(0), torch.zeros(0, 4))


def squares(objects: list[int], shift: int = 0, size: int = 40) -> Tracked:
    """Squares of `size` pixels, `shift` pixels to the right; slots go backwards."""
    masks = torch.full((len(objects), SIDE, SIDE), -5.0)
    masks[:, 24 : 24 + size, 24 + shift : 24 + shift + size] = 5.0
    ones = torch.ones(len(objects))
    slots = tuple(90 - i for i in objects)
    return Tracked(slots, masks, ones, ones, torch.zeros(len(objects), 4))


def moving(shift: float = 0.0) -> Flow:
    """Everything moves to the right by so many pixels of the masks, and all of it is believed."""
    centres = (2 * torch.arange(SIDE) + 1) / SIDE - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return Flow(torch.stack([x - 2 * shift / SIDE, y, torch.ones_like(x)]))


def resting(
    interleave: Interleave,
    able: list[int],
    flow: Flow | None = None,
    rule: RestRule | None = RULE,
) -> set[int]:
    objects, tracked = interleave.rest(able, rule, flow or moving())
    assert tracked.slots == tuple(90 - i for i in objects)
    return set(objects)


def followed_once(objects: list[int], shift: int = 0) -> Interleave:
    """All were found, and then followed, `shift` pixels further to the right, as the image was."""
    interleave = Interleave(NOTHING)
    interleave.rest(objects, RULE, None)
    interleave.note(objects, squares(objects))
    assert not resting(interleave, objects, moving(shift)), "first they are followed once"
    interleave.note(objects, squares(objects, shift))
    return interleave


@pytest.mark.parametrize("turns", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
def test_turns_come_round_in_time_and_are_spread_evenly(count: int, turns: int) -> None:
    objects, rule = list(range(1, count + 1)), RestRule(0.9, turns)
    interleave = followed_once(objects)
    frames = []
    for _ in range(6 * turns):
        rests = resting(interleave, objects, rule=rule)
        frames.append([i not in rests for i in objects])
        interleave.note(objects, squares(objects))
    followed = np.array(frames)
    for first in range(len(followed) - turns + 1):
        assert (followed[first : first + turns].sum(0) >= 1).all(), "the bound holds"
    steady = followed[turns:]
    assert (steady.sum(0) == len(steady) // turns).all(), "and nobody is followed more often"
    assert steady.sum(1).min() >= count // turns and steady.sum(1).max() <= -(-count // turns)


def test_turns_are_planned_ahead() -> None:
    assert turns_now([], 3) == 0
    assert turns_now([0, 0, 0, 0, 0], 3) == 1, "two are left for each of two frames"
    assert turns_now([1, 1, 1, 1, 0], 3) == 2
    assert turns_now([2, 2, 2, 2], 3) == 4, "whose time has come is followed, even or not"
    assert turns_now([0, 0], 1) == 2


def test_the_mask_of_who_rests_moves_with_the_image() -> None:
    interleave = followed_once([1, 2, 3], shift=6)
    for step in (1, 2):
        objects, tracked = interleave.rest([1, 2, 3], RULE, moving(6))
        there = squares([1], shift=6 + 6 * step).masks > 0
        assert objects and ((tracked.masks > 0) == there).float().mean() > 0.995
        joined = squares([1, 2, 3], shift=6 + 6 * step)
        joined.masks[[i - 1 for i in objects]] = tracked.masks
        interleave.note([1, 2, 3], joined)


def test_who_is_not_where_the_image_went_is_followed() -> None:
    """It stays while all else moves, or moves while all else stays."""
    for shift, flow in ((0, 8.0), (8, 0.0)):
        interleave = Interleave(NOTHING)
        for frame in range(4):
            assert not resting(interleave, [1], moving(flow))
            interleave.note([1], squares([1], shift * frame))


def test_how_much_must_agree_is_for_the_rule_to_say() -> None:
    for agreement, rests in ((0.97, set()), (0.94, {1})):
        interleave = Interleave(NOTHING)
        for shift in (0, 1):  # overlaps by 39 of 41 columns
            resting(interleave, [1])
            interleave.note([1], squares([1], shift))
        assert resting(interleave, [1], rule=RestRule(agreement, 2)) == rests
    assert resting(followed_once([1]), [1], rule=None) == set()


def test_who_loses_belief_is_followed_at_once() -> None:
    interleave = followed_once([1, 2])
    apart = squares([1, 2])
    apart.masks[1] = squares([2], shift=56).masks[0]
    assert resting(interleave, [1, 2]) == {1, 2}
    interleave.note([1, 2], apart)
    flow = moving()
    flow.places[2, :, 70:] = 0.0  # where the second is now
    rests = resting(interleave, [1, 2], flow)
    assert 2 not in rests


def test_a_hidden_border_is_doubt_enough() -> None:
    """Belief counts on the border, too: what comes near from outside is seen there first."""
    interleave = followed_once([1])
    flow = moving()
    flow.places[2, 24:64, 24:64] = 0.62  # inside, just enough by itself
    flow.places[2, :22] = flow.places[2, 66:] = 0.0
    flow.places[2, :, :22] = flow.places[2, :, 66:] = 0.0
    assert resting(interleave, [1], flow) == {1}
    flow.places[2, :24] = flow.places[2, 64:] = 0.0
    flow.places[2, :, :24] = flow.places[2, :, 64:] = 0.0
    assert resting(interleave, [1], flow) == set()


def test_whose_area_changes_is_followed() -> None:
    """The image grows as the camera comes nearer: 0.9 of the area is reached at 1.06 times."""
    for scale, rests in ((1.02, {1}), (1.1, set())):
        interleave = followed_once([1])
        flow = moving()
        flow.places[:2] /= scale
        assert resting(interleave, [1], flow) == rests


def test_who_leaves_the_image_is_followed() -> None:
    interleave = followed_once([1])
    assert resting(interleave, [1], moving(SIDE)) == set()


def test_a_mask_that_the_tracker_doubts_does_not_rest() -> None:
    interleave = followed_once([1, 2])
    resting(interleave, [])
    doubted = dataclasses.replace(squares([1, 2]), predicted_iou=torch.tensor([0.3, 0.9]))
    interleave.note([1, 2], doubted)
    assert resting(interleave, [1, 2]) == {2}


def test_without_flow_nobody_rests_and_all_begin_anew() -> None:
    """The first frame, and one after a break of the stream."""
    interleave = followed_once([1, 2, 3])
    assert resting(interleave, [1, 2, 3])
    interleave.note([1, 2, 3], squares([1, 2, 3]))
    assert interleave.rest([1, 2, 3], RULE, None)[0] == []
    interleave.note([1, 2, 3], squares([1, 2, 3], shift=50))
    assert not resting(interleave, [1, 2, 3])


def test_all_are_lost_at_a_scene_cut_and_others_come() -> None:
    interleave = followed_once([1, 2, 3])
    assert resting(interleave, [1, 2, 3])
    interleave.rest([], None, None)
    interleave.note([], NOTHING)
    assert not resting(interleave, [])
    interleave.note([4], squares([4]))
    assert not resting(interleave, [4])
    interleave.note([4], squares([4]))
    assert resting(interleave, [4]) == {4}


def test_who_is_new_is_followed_among_those_who_rest() -> None:
    interleave = followed_once([1, 2])
    assert resting(interleave, [1, 2]) == {1, 2}
    interleave.note([1, 2, 3], squares([1, 2, 3]))
    assert 3 not in resting(interleave, [1, 2, 3])
    interleave.note([1, 2, 3], squares([1, 2, 3]))
    assert 3 in resting(interleave, [1, 2, 3])


def test_only_those_that_are_able() -> None:
    assert resting(followed_once([1, 2, 3]), [3]) == {3}


def test_who_takes_the_slot_of_another_is_not_taken_for_it() -> None:
    assert resting(followed_once([1]), [2]) == set()


def test_who_vanishes_while_at_rest_is_forgotten() -> None:
    interleave = followed_once([1, 2])
    assert resting(interleave, [1, 2]) == {1, 2}
    interleave.note([2], squares([2]))
    assert resting(interleave, [1, 2]) <= {2}


def test_no_object_at_all() -> None:
    interleave = Interleave(NOTHING)
    interleave.note([], NOTHING)
    assert not resting(interleave, [])
