"""Discovery: where new objects come from, and which of the proposals are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import load_model
from sam2vss_ros.sam2.discovery import Candidates, GridSource, RegionSource, View, select
from small_sam2 import SMALL_SAM2

SIDE = 64
"""Quarter of its 256 pixels."""

LENIENT = PipelineConfig(
    pred_iou_thresh=0.0, stability_score_thresh=0.0, stability_score_offset=0.0, points_per_side=8
)


def boxes(*corners: tuple[int, int, int, int]) -> Tensor:
    """(N, SIDE, SIDE) bool masks from x0, y0, x1, y1."""
    masks = torch.zeros(len(corners), SIDE, SIDE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def candidates(*corners: tuple[int, int, int, int]) -> Candidates:
    return Candidates(boxes(*corners), torch.linspace(1, 0.5, len(corners)))


EVERYWHERE = torch.ones(SIDE, SIDE, dtype=torch.bool)


# -- select


def test_select_keeps_the_first_of_the_same_object() -> None:
    found = candidates((0, 0, 20, 20), (0, 0, 20, 18), (0, 0, 20, 10), (30, 30, 50, 50))
    kept = select(found, EVERYWHERE, least_area=1, most=9)
    assert torch.equal(kept.masks, found.masks[[0, 2, 3]])  # IoU 0.9 is the same, 0.5 is not
    assert torch.equal(kept.score, found.score[[0, 2, 3]])


def test_select_wants_what_is_mostly_unexplained() -> None:
    unexplained = EVERYWHERE.clone()
    unexplained[:, :20] = False
    found = candidates((0, 0, 20, 10), (10, 0, 30, 10), (9, 20, 32, 30))
    kept = select(found, unexplained, least_area=1, most=9)
    assert torch.equal(kept.masks, found.masks[2:])  # 0, 50 and 52 % are new


def test_select_drops_the_small_and_stops_at_the_most() -> None:
    found = candidates((0, 0, 3, 3), (10, 0, 20, 10), (30, 0, 40, 10), (50, 0, 60, 10))
    assert len(select(found, EVERYWHERE, least_area=10, most=9).masks) == 3
    kept = select(found, EVERYWHERE, least_area=9, most=2)
    assert torch.equal(kept.masks, found.masks[:2])
    assert len(select(found, EVERYWHERE, least_area=1, most=0).masks) == 0


def test_select_of_nothing() -> None:
    assert len(select(candidates(), EVERYWHERE, least_area=1, most=9).masks) == 0


# -- regions


def dense(labels: Tensor, sure: float = 0.9) -> Tensor:
    """(3, SIDE, SIDE) probabilities of three classes whose best is `labels`."""
    one_hot = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    return one_hot * sure + (1 - one_hot) * (1 - sure) / 2


THINGS = np.array([False, False, True])


def propose_regions(labels: Tensor, unexplained: Tensor = EVERYWHERE) -> Candidates:
    source = RegionSource(THINGS)
    features = functional.ImageFeatures(
        (labels,) * 3, (labels,) * 2, labels, labels
    )  # not looked at
    return source.propose(View(features, dense(labels)), unexplained, PipelineConfig())


def test_regions_are_connected_things_first_then_by_size() -> None:
    labels = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    labels[40:] = 1
    labels[5:10, 5:15] = 2  # a thing of 50
    labels[20:30, 40:50] = 2  # a thing of 100, apart
    found = propose_regions(labels)
    assert torch.equal(found.masks[0], boxes((40, 20, 50, 30))[0])
    assert torch.equal(found.masks[1], boxes((5, 5, 15, 10))[0])
    assert torch.equal(found.masks[2], (labels == 0)) and torch.equal(found.masks[3], labels == 1)
    assert len(found.masks) == 4
    assert found.masks.dtype == torch.bool
    assert torch.allclose(found.score, torch.tensor(0.9))


def test_touching_corners_do_not_connect_regions() -> None:
    labels = torch.zeros(SIDE, SIDE, dtype=torch.int64)
    labels[0:10, 0:10] = 2
    labels[10:20, 10:20] = 2
    assert [int(m.sum()) for m in propose_regions(labels).masks[:2]] == [100, 100]


def test_regions_leave_out_what_is_explained_and_slivers() -> None:
    unexplained = EVERYWHERE.clone()
    unexplained[:, 10:] = False
    unexplained[:, 30] = True  # a pixel wide, between two objects
    unexplained[20:40, 40:60] = True
    found = propose_regions(torch.zeros(SIDE, SIDE, dtype=torch.int64), unexplained)
    assert torch.equal(found.masks, boxes((0, 0, 10, 64), (40, 20, 60, 40)))


def test_no_regions_where_all_is_explained() -> None:
    found = propose_regions(torch.zeros(SIDE, SIDE, dtype=torch.int64), ~EVERYWHERE)
    assert found.masks.shape == (0, SIDE, SIDE) and found.score.shape == (0,)


# -- grid


class Scene:
    """The small SAM 2 and the features of one image of noise."""

    def __init__(self) -> None:
        self.network = load_model(SMALL_SAM2, device="cpu").network
        image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
        self.probabilities = dense(torch.zeros(SIDE, SIDE, dtype=torch.int64))
        with torch.inference_mode():
            pixels = functional.image_tensor(image, 256, torch.device("cpu"))
            self.features = functional.encode_image(self.network, pixels)

    @torch.inference_mode()
    def propose(self, config: PipelineConfig, unexplained: Tensor = EVERYWHERE) -> Candidates:
        source = GridSource(self.network)
        return source.propose(View(self.features, self.probabilities), unexplained, config)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The points that were decoded, in pixels of the model's input."""
    points: list[Tensor] = []
    decode = functional.decode

    def listening(*args: object, **options: object) -> functional.Decoded:
        points.append(args[3][0][:, 0])  # type: ignore[index]
        return decode(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(functional, "decode", listening)
    return points


def test_grid_covers_the_image(scene: Scene, asked: list[Tensor]) -> None:
    found = scene.propose(LENIENT)
    points = torch.cat(asked)
    assert len(points) == 64 and len(points.unique(dim=0)) == 64
    assert points.min() == 16 and points.max() == 240  # centres of 8 x 8 cells of 32 pixels
    assert len(found.masks) == 3 * 64, "three masks a point when nothing is asked of them"
    assert found.masks.shape[1:] == (SIDE, SIDE) and found.masks.dtype == torch.bool
    assert (found.score[:-1] >= found.score[1:]).all(), "best first"


def test_grid_asks_only_where_nothing_is_explained(scene: Scene, asked: list[Tensor]) -> None:
    unexplained = boxes((0, 32, 32, 64))[0]  # the lower left quarter
    scene.propose(LENIENT, unexplained)
    points = torch.cat(asked)
    assert len(points) == 16 and (points[:, 0] < 128).all() and (points[:, 1] > 128).all()


def test_grid_asks_nothing_where_all_is_explained(scene: Scene, asked: list[Tensor]) -> None:
    found = scene.propose(LENIENT, ~EVERYWHERE)
    assert asked == [] and found.masks.shape == (0, SIDE, SIDE) and found.score.shape == (0,)


def ramp(inner: int, outer: int) -> Tensor:
    """(SIDE, SIDE) logits: `inner` pixels above 1, `outer` above -1, half of the rest above 0."""
    logits = torch.full((SIDE * SIDE,), -5.0)
    logits[:outer] = -0.5
    logits[: (inner + outer) // 2] = 0.5
    logits[:inner] = 5.0
    return logits.view(SIDE, SIDE)


def test_grid_honours_its_thresholds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The single mask (token 0) is never proposed; of the three, the good and stable are."""
    masks = torch.stack([ramp(500, 500), ramp(800, 1000), ramp(790, 1000), ramp(1000, 1000)])
    ious = torch.tensor([[1.0, 0.6, 0.9, 0.59]])
    decoded = functional.Decoded(masks[None], ious, torch.zeros(1, 4, 64), torch.ones(1, 1))
    monkeypatch.setattr(functional, "decode", lambda *args, **options: decoded)

    one_point = PipelineConfig(points_per_side=1, stability_score_offset=1.0)

    def found(iou: float, stability: float) -> list[float]:
        config = replace(one_point, pred_iou_thresh=iou, stability_score_thresh=stability)
        return [round(float(s), 2) for s in scene.propose(config).score]

    assert found(iou=0.6, stability=0.8) == [0.6]
    assert found(iou=0.6, stability=0.79) == [0.9, 0.6]
    assert found(iou=0.59, stability=0.8) == [0.6, 0.59]
    assert found(iou=0.59, stability=0.9) == [0.59]
    assert found(iou=0.95, stability=0.0) == []
    assert torch.equal(scene.propose(one_point).masks, masks[1:2] > 0), "masks are cut at 0"


def test_grid_in_one_pass_and_in_many_is_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scene.propose(LENIENT)
    monkeypatch.setattr("sam2vss_ros.sam2.discovery.POINTS_PER_BATCH", 7)
    parts = scene.propose(LENIENT)
    torch.testing.assert_close(parts.score, whole.score, atol=1e-5, rtol=0)
    assert parts.masks.sum() == pytest.approx(int(whole.masks.sum()), rel=1e-3)
