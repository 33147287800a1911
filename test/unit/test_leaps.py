"""Things that move further than the optical flow can tell are found as a whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.leaps import LED, with_leaps
from sam2vss_ros.stream.motion import Flow

GRID = (18, 32)
THING = slice(5, 9), slice(4, 8)


def keys_of(thing: Tensor, background: Tensor, across: int, down: int = 0) -> Tensor:
    """(1, C, h, w) keys of a frame on which the thing is shifted by so many places."""
    keys = background.clone()
    rows, columns = THING
    shifted = slice(rows.start + down, rows.stop + down)
    keys[..., shifted, columns.start + across : columns.stop + across] = thing
    return F.normalize(keys, dim=1)


def standing(belief: float) -> Flow:
    """A flow that says that nothing moves, on a finer grid."""
    rows, columns = 90, 160
    x = ((2 * torch.arange(columns) + 1) / columns - 1).expand(rows, -1)
    y = ((2 * torch.arange(rows) + 1) / rows - 1)[:, None].expand(-1, columns)
    return Flow(torch.stack([x, y, torch.full((rows, columns), belief)]))


def masks_of(*shown: float) -> Tensor:
    """(B, H, W) soft masks of the thing, as strong as said."""
    masks = torch.zeros(len(shown), *GRID)
    masks[:, THING[0], THING[1]] = torch.tensor(shown)[:, None, None]
    return masks.repeat_interleave(8, 1).repeat_interleave(8, 2)


@pytest.fixture
def street() -> tuple[Tensor, Tensor]:
    """Keys of a thing of four by four places and of what is behind it."""
    chance = torch.Generator().manual_seed(5)
    return (
        torch.randn(1, 24, 4, 4, generator=chance),
        torch.randn(1, 24, *GRID, generator=chance),
    )


@pytest.mark.parametrize(("across", "down"), [(9, 0), (12, 3), (-4, 9)])
def test_the_flow_is_led_to_a_thing_that_leapt(
    across: int, down: int, street: tuple[Tensor, Tensor]
) -> None:
    before, now = keys_of(*street, 0), keys_of(*street, across, down)
    flow = standing(0.1)
    led = with_leaps(flow, before, now, masks_of(1.0)).at(GRID, before.device)
    middle = 7 + down, 6 + across
    x, y, belief = (led - flow.at(GRID, before.device))[:, middle[0], middle[1]].tolist()
    assert x == pytest.approx(-2 * across / GRID[1], abs=1e-4)
    assert y == pytest.approx(-2 * down / GRID[0], abs=1e-4)
    assert belief == pytest.approx(LED - 0.1, abs=1e-4)
    far = led[:, 0, 0] - flow.at(GRID, before.device)[:, 0, 0]
    assert far.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("belief", "across", "shown"),
    [(0.9, 9, 1.0), (0.1, 0, 1.0), (0.1, 16, 1.0), (0.1, 9, 0.1)],
    ids=["believed", "where it was", "out of reach", "not in sight"],
)
def test_it_stays_where_there_is_no_reason(
    belief: float, across: int, shown: float, street: tuple[Tensor, Tensor]
) -> None:
    before, now = keys_of(*street, 0), keys_of(*street, across)
    flow = standing(belief)
    led = with_leaps(flow, before, now, masks_of(shown))
    # Of what is out of reach, what is most alike by chance may be found, but not there.
    if across == 16:
        moved = (led.places != flow.places).any(0).float()
        assert moved[:, 5 * (THING[1].start + across) :].sum() == 0
    else:
        assert torch.equal(led.places, flow.places)


def test_of_several_only_who_leapt_is_led(street: tuple[Tensor, Tensor]) -> None:
    before, now = keys_of(*street, 0), keys_of(*street, 9)
    masks = torch.cat([masks_of(1.0), masks_of(0.0)])
    alone = with_leaps(standing(0.1), before, now, masks[:1])
    both = with_leaps(standing(0.1), before, now, masks)
    assert torch.equal(alone.places, both.places)
    assert not torch.equal(alone.places, standing(0.1).places)


def test_it_reaches_to_the_edge_of_the_image(street: tuple[Tensor, Tensor]) -> None:
    thing, background = street
    before = keys_of(thing, background, 0)
    now = F.normalize(background.clone(), dim=1)
    now[..., THING[0], :2] = before[..., THING[0], THING[1]][..., 2:]  # half of it has left
    flow = standing(0.1)
    led = with_leaps(flow, before, now, masks_of(1.0)).at(GRID, before.device)
    x = float((led - flow.at(GRID, before.device))[0, 7, 0])
    assert x == pytest.approx(2 * 6 / GRID[1], abs=1e-4)
