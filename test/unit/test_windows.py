"""Windows around objects, and what tracking in them leaves out."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model, load_model
from sam2vss_ros.sam2.memory import OLDEST
from sam2vss_ros.sam2.options import PRESETS, TrackingOptions
from sam2vss_ros.sam2.tracker import Tracked, Tracker
from sam2vss_ros.sam2.windows import (
    OUTSIDE,
    Windows,
    boxes_of,
    margin_of,
    sides_for,
    windows_around,
)
from sam2vss_ros.training.procedural import make_clip
from small_sam2 import SMALL_SAM2

SIZE, GRID = 512, 32  # the smallest grid that has windows


@pytest.fixture(scope="module")
def small() -> Sam2Model:
    return load_model(SMALL_SAM2, device="cpu", image_size=SIZE)


@pytest.fixture(scope="module")
def frames(small: Sam2Model) -> list[functional.ImageFeatures]:
    clip = make_clip(3, 4, (SIZE, SIZE), kind="abstract")
    with torch.inference_mode():
        return [
            functional.encode_image(
                small.network, functional.image_tensor(image, SIZE, small.device)
            )
            for image in clip.frames
        ]


def logits(*boxes: tuple[int, int, int, int], side: int = 4 * GRID) -> Tensor:
    """(B, side, side) mask logits of filled boxes, given as rows and columns from, to."""
    masks = torch.full((len(boxes), side, side), -8.0)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 8.0
    return masks


def tracked(masks: Tensor, network: SAM2Base) -> Tracked:
    count = len(masks)
    pointers = torch.zeros(count, network.hidden_dim)
    return Tracked(tuple(range(count)), masks, torch.ones(count), torch.ones(count), pointers)


def test_boxes_are_in_tokens_and_hold_every_pixel() -> None:
    masks = logits((0, 0, 4, 4), (5, 9, 8, 20), (127, 127, 128, 128))
    assert boxes_of(masks, GRID).tolist() == [[0, 0, 1, 1], [1, 2, 2, 5], [31, 31, 32, 32]]


def test_what_is_nowhere_may_be_anywhere() -> None:
    assert boxes_of(logits((0, 0, 0, 0)), GRID).tolist() == [[0, 0, GRID, GRID]]


@pytest.mark.parametrize(
    ("extent", "side"), [(1, 12), (4, 12), (5, 16), (8, 16), (9, 24), (17, 32), (32, 32)]
)
def test_sides_leave_a_margin(extent: int, side: int) -> None:
    assert margin_of(GRID) == 4
    box = torch.tensor([[3, 0, 3 + 1, extent]])
    assert sides_for(box, GRID).tolist() == [side]


def test_small_grids_have_no_windows() -> None:
    assert sides_for(torch.tensor([[3, 3, 4, 4]]), 16).tolist() == [16]


def test_windows_are_centred_and_stay_on_the_grid() -> None:
    boxes = torch.tensor([[6, 6, 10, 10], [0, 0, 1, 1], [31, 8, 32, 9]])
    assert windows_around(boxes, 8, GRID).corners.tolist() == [[4, 4], [0, 0], [24, 4]]


def test_crops_paste_back() -> None:
    maps = torch.randn(2, 3, 4 * GRID, 4 * GRID)
    windows = Windows(GRID, 8, torch.tensor([[0, 3], [8, 8]]))
    crops = windows.crop(maps)
    assert crops.shape == (2, 3, 32, 32)
    assert torch.equal(crops[0], maps[0, :, 0:32, 12:44])
    assert torch.equal(windows.crop(maps[:1])[1], maps[0, :, 32:64, 32:64])
    pasted = windows.paste(crops, torch.zeros_like(maps))
    assert torch.equal(windows.crop(pasted), crops)
    assert torch.equal(pasted != 0, (pasted == maps) & (pasted != 0))
    assert int((pasted[:, 0] != 0).sum()) == 2 * 32 * 32


def test_tokens_are_those_of_the_crop() -> None:
    places = torch.arange(GRID * GRID).view(1, 1, GRID, GRID)
    windows = Windows(GRID, 8, torch.tensor([[1, 2], [8, 0]]))
    assert torch.equal(windows.tokens(), windows.crop(places)[:, 0].flatten(1))


@torch.inference_mode()
def test_attention_in_a_window_of_everything_is_attention(
    small: Sam2Model, frames: list[functional.ImageFeatures]
) -> None:
    torch.manual_seed(0)
    recall = (
        torch.randn(2, 3, GRID * GRID, 32),
        torch.tensor([[3, 0, 1], [3, 1, 2]]),
        torch.randn(2, 3, 64),
        torch.tensor([[5.0, 1, 2], [9, 1, 2]]),
    )
    whole = functional.attend_to_memory(small.network, frames[0], *recall)
    windows = Windows(GRID, GRID, torch.zeros(2, 2, dtype=torch.int64))
    places = torch.arange(GRID * GRID).expand(2, 3, -1)
    windowed = functional.attend_to_memory(small.network, frames[0], *recall, windows, places)
    assert (whole - windowed).abs().max() < 1e-4
    decoded = functional.decode(small.network, whole, frames[0].high_res)
    same = functional.decode(small.network, windowed, frames[0].high_res, windows=windows)
    assert (decoded.masks - same.masks).abs().max() < 1e-3


@torch.inference_mode()
def test_memories_of_windows_are_nearly_those_of_the_whole(
    small: Sam2Model, frames: list[functional.ImageFeatures]
) -> None:
    """The rest of the image is remembered as it is without the object."""
    masks = logits((40, 40, 56, 56), (80, 16, 96, 36))[:, None]
    visible = torch.tensor([[1.0], [0.0]])
    whole = functional.encode_memory(
        small.network, frames[0], functional.full_size(masks, SIZE), visible
    )
    windows = windows_around(boxes_of(masks[:, 0], GRID), 12, GRID)
    local = functional.encode_memory_in_windows(small.network, frames[0], masks, visible, windows)
    scale = whole.abs().mean()
    assert (local - whole).abs().mean() < 0.04 * scale
    inside = windows.paste(torch.ones(2, 1, 12, 12), torch.zeros(2, 1, GRID, GRID))
    assert ((local - whole) * (1 - inside)).abs().mean() < 0.01 * scale


@torch.inference_mode()
def run(
    small: Sam2Model,
    frames: list[functional.ImageFeatures],
    options: TrackingOptions,
    masks: Tensor,
) -> list[Tracked]:
    tracker = Tracker(small, len(masks), options)
    slots = list(range(len(masks)))
    tracker.start(frames[0], tracked(masks, small.network))
    seen = []
    for features in frames[1:]:
        found = tracker.step(features, slots)
        tracker.commit(features, found)
        seen.append(found)
    return seen


def test_local_tracking_finds_what_exact_tracking_finds(
    small: Sam2Model, frames: list[functional.ImageFeatures]
) -> None:
    masks = logits((16, 16, 40, 40), (0, 0, 120, 128), (60, 68, 90, 100))
    exact = run(small, frames, PRESETS["exact"], masks)
    local = run(small, frames, TrackingOptions(local=True), masks)
    assert local[0].slots == exact[0].slots == (0, 1, 2)
    a, b = local[0].masks > 0, exact[0].masks > 0
    iou = (a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1)
    assert iou.mean() > 0.8
    # What is as large as the image has the whole image as its window.
    assert (local[0].masks[1] - exact[0].masks[1]).abs().max() < 1e-3


def test_nothing_is_found_outside_the_window(
    small: Sam2Model, frames: list[functional.ImageFeatures]
) -> None:
    (first, *_) = run(small, frames, TrackingOptions(local=True), logits((8, 8, 16, 16)))
    windows = windows_around(torch.tensor([[2, 2, 4, 4]]), 12, GRID)
    outside = torch.full((1, 1, 4 * GRID, 4 * GRID), OUTSIDE)
    expected = windows.paste(windows.crop(first.masks[:, None]), outside)
    assert torch.equal(first.masks[:, None], expected)


def test_the_conditioning_frame_stops_ageing(small: Sam2Model) -> None:
    tracker = Tracker(small, 1)
    bank = tracker.bank
    one = torch.zeros(1, dtype=torch.int64)
    nothing = (
        torch.zeros(1, 32, GRID, GRID),
        torch.zeros(1, 64),
        torch.zeros(1, 4).long(),
    )
    bank.start(one, *nothing)
    bank._age[0] = OLDEST - 2
    ages = []
    for _ in range(4):
        bank.write(one, *nothing)
        ages.append(float(bank.recall([0])[0].pointer_ages[0, 0]))
    assert ages == [OLDEST, OLDEST, OLDEST, OLDEST]
