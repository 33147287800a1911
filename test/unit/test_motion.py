"""Optical flow: where things were, and how far that is believed."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from sam2vss_ros.stream.motion import Motion, carried

CPU = torch.device("cpu")


def picture(shift: int = 0) -> np.ndarray:
    """A texture of 240 x 320 pixels, moved to the right."""
    grains = np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    wide = cv2.resize(grains, (640, 240), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(wide[:, 160 - shift : 480 - shift])


def test_the_first_image_has_no_flow_nor_has_one_of_another_size() -> None:
    motion = Motion()
    assert motion.follow(picture()) is None
    assert motion.follow(picture()) is not None
    assert motion.follow(np.ascontiguousarray(picture().transpose(1, 0, 2))) is None
    motion.clear()
    assert motion.follow(picture()) is None


def test_it_leads_to_where_things_were() -> None:
    motion = Motion()
    motion.follow(picture())
    flow = motion.follow(picture(16))
    assert flow is not None
    places = flow.at((240, 320), CPU)
    x = (places[0] + 1) * 160 - 0.5
    moved = torch.arange(320) - x
    inner = (slice(20, -20), slice(40, -20))
    assert (moved[inner] - 16).abs().mean() < 0.5
    assert places[2][inner].mean() > 0.9
    assert places[2][:, :8].mean() < 0.3, "what has just come in was nowhere"


def test_what_has_changed_is_not_believed() -> None:
    motion = Motion()
    motion.follow(picture())
    changed = picture()
    changed[60:180, 100:220] = 255 - changed[60:180, 100:220]
    flow = motion.follow(changed)
    assert flow is not None
    belief = flow.at((240, 320), CPU)[2]
    assert belief[80:160, 120:200].mean() < 0.3 < 0.9 < belief[:, :80].mean()


def test_maps_are_carried_to_where_things_are_now() -> None:
    motion = Motion()
    motion.follow(picture())
    flow = motion.follow(picture(16))
    assert flow is not None
    before = torch.zeros(1, 120, 160)
    before[:, 40:80, 60:100] = 1
    now = carried(before, flow.at((120, 160), CPU))[0] > 0.5
    expected = torch.zeros(120, 160, dtype=torch.bool)
    expected[40:80, 68:108] = True
    assert (now & expected).sum() / (now | expected).sum() > 0.9


def test_frames_that_are_passed_over_are_steps_of_one_flow() -> None:
    motion = Motion()
    motion.follow(picture())
    for shift in (8, 16):
        moved = motion.glance(picture(shift))
        motion.pass_over(moved)
    flow = motion.follow(picture(24))
    assert flow is not None and motion.last is not None and motion.last.step is not None
    inner = (slice(20, -20), slice(50, -20))
    for found, expected in ((flow, 24), (motion.last.step, 8)):
        x = (found.at((240, 320), CPU)[0] + 1) * 160 - 0.5
        assert (torch.arange(320) - x - expected)[inner].abs().mean() < 0.75
    assert flow.places[2][inner].mean() > 0.8
    assert 0 < flow.belief() <= motion.last.step.belief()
    again = motion.follow(picture(24))
    assert again is not None
    assert (again.at((240, 320), CPU)[0][inner] - still()[inner]).abs().mean() < 0.01


def still() -> torch.Tensor:
    """x of every place of (240, 320), from -1 to 1."""
    return ((2 * torch.arange(320) + 1) / 320 - 1).expand(240, 320)


def test_a_glance_takes_nothing() -> None:
    motion = Motion()
    motion.follow(picture())
    last = motion.last
    moved = motion.glance(picture(16))
    assert motion.last is last and moved.flow is moved.step
    flow = motion.follow(picture(16))
    assert (
        flow is not None and moved.flow is not None and torch.equal(flow.places, moved.flow.places)
    )
