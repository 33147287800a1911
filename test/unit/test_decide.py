"""What was decided on a frame, moved to where it is on the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2vss_ros.stages.decide import Decision
from sam2vss_ros.stream.motion import Flow

SIZE = (12, 20)


def decision(with_entropy: bool = True) -> Decision:
    rng = np.random.default_rng(0)
    return Decision(
        classes=rng.integers(0, 11, SIZE),
        confidence=rng.random(SIZE, np.float32),
        owner=rng.integers(-1, 3, SIZE).astype(np.int16),
        entropy=rng.random(SIZE, np.float32) if with_entropy else None,
        familiar=0.7,
        tracks=(),
    )


def flow(down: float, right: float) -> Flow:
    """Everything has moved by so many places."""
    height, width = SIZE
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = [(2 * (x - right) + 1) / width - 1, (2 * (y - down) + 1) / height - 1]
    return Flow(torch.stack([*places, torch.ones(SIZE)]))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -3), (-1.3, 2.4)])
def test_all_maps_move_together(down: float, right: float) -> None:
    """By whole places; what comes in at an edge is as that edge was."""
    before = decision()
    after = before.along(flow(down, right))
    rows = (np.arange(SIZE[0]) - round(down)).clip(0, SIZE[0] - 1)
    columns = (np.arange(SIZE[1]) - round(right)).clip(0, SIZE[1] - 1)
    for name in ("classes", "confidence", "owner", "entropy"):
        was, moved = getattr(before, name), getattr(after, name)
        assert moved.dtype == was.dtype, name
        np.testing.assert_array_equal(moved, was[rows][:, columns], name)
    assert (after.familiar, after.tracks, after.size) == (0.7, (), SIZE)


def test_flow_is_found_on_another_grid() -> None:
    coarse = Flow(torch.nn.functional.avg_pool2d(flow(0, 2).places[None], 2)[0])
    expected, moved = decision().along(flow(0, 2)), decision().along(coarse)
    inside = np.s_[1:-1, 3:-1]
    np.testing.assert_array_equal(moved.owner[inside], expected.owner[inside])


def test_without_entropy_there_is_none() -> None:
    assert decision(with_entropy=False).along(flow(1, 1)).entropy is None


def test_what_moves_is_another_decision() -> None:
    before = decision()
    kept = replace(before, classes=before.classes.copy())
    before.along(flow(1, 0)).classes[:] = 0
    np.testing.assert_array_equal(before.classes, kept.classes)
