"""Random views of labelled images."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sam2vss_ros.training import views
from sam2vss_ros.training.data import VOID, LabelledStill
from stills import two_halves
from street_stills import CAMVID, street


def stream(stills: list[LabelledStill], count: int = 2, **options: int) -> views.ViewStream:
    arguments = {"size": 64, "seed": 0, "first_step": 0} | options
    return views.ViewStream(stills, CAMVID, count=count, **arguments)


def test_views_keep_image_and_labels_together() -> None:
    """Sky and road have each a colour of their own in every view, by which the labels are found."""
    batch = next(iter(stream([street()], count=16)))
    assert batch.images.shape == (16, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.labels.shape == (16, 64, 64) and batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {VOID, 0, 2, 3}
    greener = []
    for image, labels in zip(batch.images.permute(0, 2, 3, 1), batch.labels, strict=True):
        if not {0, 3} <= set(labels.unique().tolist()):
            continue
        sky, road = (image[labels == index].float().median(0).values for index in (0, 3))
        nearer_to_sky = (image - sky).abs().sum(-1) < (image - road).abs().sum(-1)
        known = (labels == 0) | (labels == 3)
        assert (nearer_to_sky == (labels == 0))[known].float().mean() > 0.9
        # The road is purple, the sky grey: a change of their colours seldom turns that round.
        shares = [float(colour[1] / colour.sum()) for colour in (sky, road)]
        greener.append(shares[0] > shares[1])
    assert len(greener) >= 5 and np.mean(greener) > 0.7


def test_views_know_the_middles_of_their_cars() -> None:
    """Where there is a car there is the way to its middle; sky, road and poles are no things."""
    batch = next(iter(stream([two_halves()], count=16)))
    assert batch.middles.shape == (16, 4, 16, 16) and batch.middles.dtype == torch.float32
    cars = batch.labels[:, 2::4, 2::4] == 8
    learned = batch.middles[:, 3] > 0
    assert learned.sum() > 100 and (learned & ~cars).sum() == 0
    assert learned[cars].float().mean() > 0.9, "all but parts that are too small"
    for near, x, y, seen in batch.middles:
        if seen.any() and near.max() == 1 and (near == 1).sum() == 1:
            ((row, column),) = (near == 1).nonzero().tolist()
            rows, columns = (seen > 0).nonzero().T
            to_x = columns + 16 * x[rows, columns]
            to_y = rows + 16 * y[rows, columns]
            assert (to_x - column).abs().max() <= 1 and (to_y - row).abs().max() <= 1
    assert not next(iter(stream([street()]))).middles.any()


def test_a_pasted_car_is_a_thing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PASTED", 1.0)
    monkeypatch.setattr(views, "RARE", 0.9)
    material = stream([two_halves()], size=256)
    seen = [material._view(np.random.default_rng(k)) for k in range(20)]
    assert {tuple(np.unique(view.instances).tolist()) for view in seen} >= {(0, 1, 10_001)}
    for view in seen:
        assert np.array_equal(view.instances > 0, view.labels == 8)


def test_step_k_has_the_same_views_whatever_came_before_it() -> None:
    early, late = (iter(stream([street()], seed=1, first_step=step)) for step in (3, 4))
    third, fourth = next(early), next(early)
    for ours, theirs in zip(fourth, next(late), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(third.images, fourth.images)


def test_batches_come_in_order_from_another_process() -> None:
    here = iter(stream([street()], seed=3, first_step=4))
    there = stream([street()], seed=3, first_step=4).in_background()
    for _ in range(2):
        for mine, theirs in zip(next(here), next(there), strict=True):
            assert torch.equal(mine, theirs)


def test_a_view_is_a_part_of_the_image_whatever_its_size() -> None:
    labels = np.zeros((120, 180), np.uint8)
    for seed in range(20):
        matrix = views.view_matrix(labels.shape, 96, np.random.default_rng(seed))
        # It shows from a seventh to a half of the rows.
        assert 17 < 96 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))) < 62
        seen = cv2.warpAffine(labels, matrix, (96, 96), flags=cv2.INTER_NEAREST, borderValue=255)
        assert (seen != 255).mean() > 0.2
        double = views.view_matrix((240, 360), 96, np.random.default_rng(seed))
        assert double[:, :2] == pytest.approx(matrix[:, :2] / 2)


def test_relit_takes_any_brightness() -> None:
    rng = np.random.default_rng(0)
    dusk, day = (np.full((32, 32, 3), v, np.uint8) for v in (60, 130))
    for image in (dusk, day):
        means = [views.relit(image, rng).mean() for _ in range(60)]
        assert min(means) < 80 and max(means) > 120
    for extreme in (np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)):
        assert views.relit(extreme, rng).dtype == np.uint8


def test_images_with_rare_classes_come_more_often() -> None:
    plain = replace(street(), labels=np.where(street().labels == 2, 0, street().labels))
    chance = stream([plain, street()])._chance
    assert chance[1] > 2 * chance[0] > 0
    assert chance.sum() == pytest.approx(1)
