"""Crumbs and pinholes of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from sam2vss_ros.affinity.crumbs import CHANGED, CRUMB, PINHOLE, without_crumbs


def thing() -> Tensor:
    """(1, 48, 64) logits of a mask of 20 x 20 pixels."""
    logits = torch.full((1, 48, 64), -5.0)
    logits[0, 10:30, 10:30] = 5.0
    return logits


def test_a_mask_without_either_stays() -> None:
    assert without_crumbs(thing()).equal(thing())


def test_an_empty_mask_stays_empty() -> None:
    empty = torch.full((2, 8, 8), -5.0)
    assert without_crumbs(empty).equal(empty)


def test_a_crumb_goes_and_a_piece_stays() -> None:
    logits = thing()
    side = int((CRUMB * 400) ** 0.5)
    logits[0, 40 : 40 + side, 40 : 40 + side] = 2.0
    logits[0, :10, 50:60] = 2.0
    expected = logits.clone()
    expected[0, 40 : 40 + side, 40 : 40 + side] = -CHANGED
    assert without_crumbs(logits).equal(expected)


def test_a_pinhole_is_filled_and_an_opening_stays() -> None:
    logits = thing()
    side = int((PINHOLE * 400) ** 0.5) - 1
    logits[0, 12 : 12 + side, 12 : 12 + side] = -1.0
    logits[0, 20:26, 20:26] = -1.0
    expected = logits.clone()
    expected[0, 12 : 12 + side, 12 : 12 + side] = CHANGED
    assert without_crumbs(logits).equal(expected)


def test_what_is_between_the_mask_and_the_edge_of_the_image_is_no_hole() -> None:
    logits = torch.full((1, 48, 64), 5.0)
    logits[0, 0, 3] = logits[0, 47, 63] = -5.0
    assert without_crumbs(logits).equal(logits)


def test_the_largest_piece_is_no_crumb_however_many_there_are() -> None:
    logits = torch.full((1, 48, 64), -5.0)
    logits[0, ::4, ::4] = 3.0
    assert without_crumbs(logits).equal(logits)


def test_masks_are_tidied_each_for_itself() -> None:
    small, large = thing(), thing()
    small[0, 12, 12] = -1.0
    large[0, 40, 40] = 2.0
    both = without_crumbs(torch.cat([small, large]))
    assert both.equal(torch.cat([without_crumbs(small), without_crumbs(large)]))
    assert (both[0, 12, 12], both[1, 40, 40]) == (CHANGED, -CHANGED)
