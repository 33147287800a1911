"""The mask decoder: windows, what it sees, how it is asked, and what it mends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.affinity import correction, decoder
from sam2vss_ros.affinity.correction import AT_ONCE, Correction
from sam2vss_ros.affinity.decoder import (
    CUES,
    LEAST_SIDE,
    MARGIN,
    WINDOW,
    MaskDecoder,
    Seen,
    Windows,
    spread,
    strongest_other,
)
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.object_pointers import ObjectPointers, sampled
from sam2vss_ros.sam2.functional import image_tensor
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.stream.motion import Flow

CPU = torch.device("cpu")
SIZE = (96, 128)


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


@pytest.fixture(scope="module")
def features(model: AffinityModel) -> TrunkFeatures:
    """Of a street's colours: a striped box, x 40 to 120, y 60 to 120, on a grey wall with grain."""
    image = np.random.default_rng(0).normal(120, 8, (192, 256, 3))
    image[60:120, 40:120] = (200, 60, 40)
    image[60:120:6, 40:120] = (60, 20, 10)
    tensor = image_tensor(image.clip(0, 255).astype(np.uint8), (192, 256), CPU)
    with torch.inference_mode():
        return model.encode(tensor)


def box(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """(1, *SIZE) bool."""
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[:, y0:y1, x0:x1] = True
    return mask


def logits(mask: Tensor) -> Tensor:
    return torch.where(mask, 6.0, -6.0)


# -- windows


def test_a_window_is_around_its_mask() -> None:
    left, top, side = Windows.around(torch.cat([box(20, 30, 80, 50), box(5, 5, 6, 6)]))
    assert side.tolist() == [60 * MARGIN, LEAST_SIDE]
    assert (left + side / 2).tolist() == [50, 5.5] and (top + side / 2).tolist() == [40, 5.5]


@pytest.mark.parametrize("place", [(20, 30, 80, 50), (0, 0, 128, 96), (100, 70, 128, 96)])
def test_what_is_cut_out_is_put_back_where_it_was(place: tuple[int, int, int, int]) -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    smooth = (torch.sin(x / 20) + torch.cos(y / 16))[None]
    windows = Windows.around(box(*place))
    cut = sampled(smooth[:, None], windows.grid(WINDOW, SIZE))[:, 0]
    back = spread(cut, windows, SIZE)
    inside = box(*place)
    assert (back - smooth).abs()[inside].max() < 0.12
    left, top, side = (float(part) for part in windows)
    beyond = torch.ones(1, *SIZE, dtype=torch.bool)
    rows = slice(max(0, math.floor(top)), math.ceil(top + side) + 1)
    beyond[:, rows, max(0, math.floor(left)) : math.ceil(left + side) + 1] = False
    assert not back[beyond].any()


def test_the_strongest_other_is_never_the_object_itself() -> None:
    maps = torch.randn(5, 8, 8, generator=torch.Generator().manual_seed(0))
    for i in range(5):
        others = maps[[n for n in range(5) if n != i]].amax(0)
        assert torch.equal(strongest_other(maps, [i])[0], others)
    assert (strongest_other(maps[:1], [0]) == -decoder.SUREST).all()


# -- pointers


def test_the_image_is_like_an_object_where_it_is(features: TrunkFeatures) -> None:
    pointers = ObjectPointers(3, CPU)
    mask = box(20, 30, 60, 60)
    objects = torch.tensor([2])
    pointers.begin(objects, features.unit_keys, mask)
    for like in pointers.likeness(objects, features.unit_keys):
        size = (like.shape[-2], like.shape[-1])
        here = torch.nn.functional.interpolate(mask[None].float(), size, mode="area")[0, 0] > 0.9
        own, around = like[0, 0], like[0, 1]
        assert own[here].mean() > own[~here].mean() + 0.3
        assert around[here].mean() < own[here].mean()


def test_pointers_follow_what_is_seen_but_remember_where_it_began(features: TrunkFeatures) -> None:
    pointers, objects = ObjectPointers(1, CPU), torch.tensor([0])
    pointers.begin(objects, features.unit_keys, box(20, 30, 60, 60))
    first = pointers.likeness(objects, features.unit_keys)
    for _ in range(200):
        pointers.learn(objects, features.unit_keys, box(80, 10, 120, 40))
    then = pointers.likeness(objects, features.unit_keys)
    assert (first[1][:, 2:] - then[1][:, 2:]).abs().max() < 1e-5, "places where it began"
    wall = then[0][0, 0, 5:20, 40:60]
    assert wall.mean() > first[0][0, 0, 5:20, 40:60].mean() + 0.3, "the mean"


# -- the network and its turns


def test_it_changes_nothing_before_training() -> None:
    network = MaskDecoder().eval()
    seen = Seen(torch.randn(2, 6, WINDOW, WINDOW), torch.randn(2, CUES, WINDOW // 2, WINDOW // 2))
    with torch.inference_mode():
        assert not network(seen).any()


class Eraser(MaskDecoder):
    """Takes away what was read, and counts whom it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, seen: Seen) -> Tensor:
        self.asked.append(len(seen.fine))
        return torch.full((len(seen.fine), WINDOW, WINDOW), -20.0)


def begun(network: MaskDecoder, features: TrunkFeatures, masks: Tensor) -> Correction:
    made = Correction(network, len(masks), CPU)
    made.allocate(SIZE)
    made.begin(features, range(len(masks)), masks)
    return made


def still() -> Flow:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 97), torch.linspace(-1, 1, 129), indexing="ij")
    x, y = ((m[1:, 1:] + m[:-1, :-1]) / 2 for m in (x, y))
    return Flow(torch.stack([x, y, torch.ones_like(x)]))


def test_few_are_looked_at_on_a_frame_and_all_in_their_turn(features: TrunkFeatures) -> None:
    masks = torch.cat([box(10 * i, 10, 10 * i + 8, 30) for i in range(2 * AT_ONCE + 1)])
    network = Eraser()
    made = begun(network, features, masks)
    ids, read = list(range(len(masks))), logits(masks)
    left = []
    for _ in range(3):
        found = made.correct(features, ids, read, masks.float(), still())
        left.append(int((found > 0).flatten(1).any(1).sum()))
    assert network.asked == [AT_ONCE, AT_ONCE, AT_ONCE]
    assert left == [AT_ONCE + 1, 1, 0], "what was changed stays so until the next turn"


def test_what_was_changed_moves_along_the_flow(features: TrunkFeatures) -> None:
    mask = box(40, 40, 60, 60)
    made = begun(MaskDecoder().eval(), features, mask)
    made._changes[0, 40:50, 40:50] = -20.0
    flow = still()
    flow.places[0] -= 2 * 16 / SIZE[1]  # 16 pixels to the right
    made._due = lambda objects, there: []  # type: ignore[method-assign]
    moved = box(56, 40, 76, 60)
    found = made.correct(features, [0], logits(moved), moved.float(), flow)
    assert (found[0, 41:49, 57:65] < 0).all() and (found[0, 52:60, 58:75] > 0).all()


def test_of_what_looks_like_all_around_it_nothing_is_changed(model: AffinityModel) -> None:
    """As on a blank image, where no outline can be seen."""
    grey = np.full((192, 256, 3), 90, np.uint8)
    with torch.inference_mode():
        blank = model.encode(image_tensor(grey, (192, 256), CPU))
        mask = box(40, 40, 60, 60)
        made = begun(Eraser(), blank, mask)
        found = made.correct(blank, [0], logits(mask), mask.float(), None)
    assert torch.equal(found > 0, mask)


def test_what_is_nowhere_is_not_looked_at(features: TrunkFeatures) -> None:
    network = Eraser()
    made = begun(network, features, box(40, 40, 60, 60))
    nothing = torch.zeros(1, *SIZE, dtype=torch.bool)
    found = made.correct(features, [0], logits(nothing), nothing.float(), None)
    assert network.asked == [] and (found < 0).all()


def test_a_new_object_in_the_place_of_another_has_no_changes(features: TrunkFeatures) -> None:
    mask = box(40, 40, 60, 60)
    made = begun(Eraser(), features, mask)
    assert (made.correct(features, [0], logits(mask), mask.float(), None) < 0).all()
    made.begin(features, [0], mask)
    made._due = lambda objects, there: []  # type: ignore[method-assign]
    assert (made.correct(features, [0], logits(mask), mask.float(), still()) > 0).any()


def test_memory_is_constant_and_given_back(features: TrunkFeatures) -> None:
    made = Correction(MaskDecoder(), 5, CPU)
    assert made.nbytes() == 0
    made.allocate(SIZE)
    taken = made.nbytes()
    mask = box(40, 40, 60, 60)
    made.begin(features, [3], mask)
    made.correct(features, [3], logits(mask), mask.float(), None)
    made.learn(features, [3], mask)
    assert made.nbytes() == taken > 5 * SIZE[0] * SIZE[1] * 4
    made.release()
    assert made.nbytes() == 0


def test_what_it_says_is_not_remembered(
    model: AffinityModel, features: TrunkFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors would add up from frame to frame."""
    monkeypatch.setattr(correction.Correction, "_due", lambda self, objects, there: [0])
    tracker = model.new_tracker(1, PRESETS["exact"])
    tracker._correction._network = Eraser()
    with torch.inference_mode():
        found = tracker.from_masks(features, [0], box(20, 30, 60, 60))
        tracker.start(features, found)
        later = TrunkFeatures(features.pyramid, features.images, features.key_net)
        seen = tracker.step(later, [0], None)
        tracker.commit(later, seen)
        assert not (seen.masks > 0).any()
        again = TrunkFeatures(features.pyramid, features.images, features.key_net)
        tracker._correction._network = MaskDecoder().eval()
        seen = tracker.step(again, [0], None)
    assert (seen.masks[0] > 0).sum() > 0.9 * 40 * 30
