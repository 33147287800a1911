"""Embeddings of objects, and which candidate is which object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.stream.reid import assign, colour_maps, embed

CPU = torch.device("cpu")
GREY = colour_maps(np.full((16, 16, 3), 128, np.uint8), (16, 16), CPU)


def halves(side: int = 16) -> Tensor:
    """(2, side, side) bool masks: left and right."""
    left = torch.zeros(side, side, dtype=torch.bool)
    left[:, : side // 2] = True
    return torch.stack([left, ~left])


def test_regions_are_told_apart_and_known_again() -> None:
    torch.manual_seed(2)
    colours, masks = torch.randn(2, 4), halves()

    def pyramid(moved: int) -> tuple[Tensor, ...]:
        picture = (colours[:, :, None, None] * masks[:, None]).sum(0, keepdim=True)
        picture = picture.roll(moved, 2) + 0.01 * torch.randn(1, 4, 16, 16) + 10  # common to all
        return picture, picture[:, :, ::2, ::2], picture[:, :, ::4, ::4]

    before, after = embed(pyramid(0), GREY, masks), embed(pyramid(4), GREY, masks)
    assert before.shape == (2, 3 * 4 + 64)
    torch.testing.assert_close(before.norm(dim=1), torch.ones(2))
    assert before[0] @ after[0] > 0.95 and before[1] @ after[1] > 0.95
    assert before[0] @ after[1] < 0.3, "all but the colour differ"


def test_a_loud_channel_does_not_drown_the_others() -> None:
    """Channel 0 has a large range but says nothing; channel 1 has a small one and tells all."""
    torch.manual_seed(3)
    masks = halves()
    picture = torch.cat([100 * torch.randn(1, 1, 16, 16), 0.1 * masks[None, :1]], 1)
    left, right = embed((picture,), GREY, masks)[:, 64:]
    assert left @ right / left.norm() / right.norm() < -0.95


def test_colours_tell_what_features_do_not() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = (255, 255, 130)
    seen = colour_maps(image, (16, 16), CPU)
    assert seen.shape == (1, 64, 16, 16) and (seen.sum(1) == 1).all()
    assert seen[0, 0, :, :8].all() and seen[0, 16 * 3 + 4 * 3 + 2, :, 8:].all()
    features = torch.zeros(1, 4, 16, 16)
    left, right = embed((features,), seen, halves())
    assert left @ left == pytest.approx(1) and left @ right == pytest.approx(0)


def test_no_masks_have_no_embeddings() -> None:
    assert embed((torch.randn(1, 4, 16, 16),), GREY, halves()[:0]).shape == (0, 68)


@pytest.mark.parametrize(
    ("alike", "expected"),
    [
        ([[0.9, 0.1], [0.1, 0.9]], [0, 1]),
        ([[0.9, 0.85], [0.95, 0.1]], [1, 0]),  # the most alike pair first, then what is left
        ([[0.9], [0.95], [0.94]], [None, 0, None]),  # no object is two candidates
        ([[0.79, 0.1]], [None]),  # not alike enough
        ([[0.9, 0.86], [0.1, 0.1]], [None, None]),  # too close to the next
        ([[0.9, 0.84]], [0]),
        ([[0.9, 0.88], [0.1, 0.95]], [0, 1]),  # the next one is taken: it does not compete
        ([], []),
        ([[], []], [None, None]),
    ],
)
def test_assignment(alike: list[list[float]], expected: list[int | None]) -> None:
    width = len(alike[0]) if alike else 2
    assert assign(torch.tensor(alike).view(len(alike), width), 0.8, 0.05) == expected


def test_assignment_is_one_to_one_and_certain() -> None:
    torch.manual_seed(4)
    for _ in range(50):
        alike = torch.rand(7, 5)
        found = assign(alike, 0.5, 0.02)
        objects = [j for j in found if j is not None]
        assert len(objects) == len(set(objects))
        assert all(alike[i, j] >= 0.5 for i, j in enumerate(found) if j is not None)
