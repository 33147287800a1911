"""Things of one class that touch are told apart by their middles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sam2vss_ros.semantics.instances import divided
from sam2vss_ros.semantics.segmenter import MIDDLE_SCALE
from sam2vss_ros.training.middles import middle_loss, middle_targets


def two_cars() -> npt.NDArray[np.int16]:
    """Two blocks side by side that touch, and one by itself; (96, 160) ids."""
    ids = np.zeros((96, 160), np.int16)
    ids[24:64, 16:56], ids[24:64, 56:112] = 1, 2
    ids[72:88, 120:152] = 7
    return ids


def predicted(ids: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """What a perfect head says of them, at stride 4."""
    near, x, y, _ = middle_targets(ids)
    return np.stack([np.log((near + 1e-3) / (1 - near + 1e-3)), x, y]).astype(np.float32)


def regions() -> npt.NDArray[np.int32]:
    """Two connected regions, at stride 2."""
    ids = two_cars()[::2, ::2]
    return np.where(ids == 7, 2, ids > 0).astype(np.int32)


def test_targets_lead_to_the_middles() -> None:
    near, x, y, learned = middle_targets(two_cars())
    assert near.shape == (24, 40) and near.max() > 0.9
    peak = np.unravel_index(near[:, :14].argmax(), (24, 14))
    assert np.allclose(peak, (10.5, 8.5), atol=0.5)
    assert learned.sum() == (two_cars()[2::4, 2::4] > 0).sum()
    inside = two_cars()[2::4, 2::4] == 2
    columns = np.nonzero(inside)[1] + x[inside] * MIDDLE_SCALE
    assert np.allclose(columns, columns[0]) and not x[~(learned > 0)].any() and not y[0].any()


def test_what_is_tiny_has_no_middle() -> None:
    ids = np.zeros((32, 32), np.int16)
    ids[8:16, 8:16] = 3
    assert not middle_targets(ids).any()


def test_the_loss_likes_the_truth() -> None:
    targets = torch.from_numpy(middle_targets(two_cars()))[None]
    perfect = torch.from_numpy(predicted(two_cars()))[None]
    blind = torch.zeros_like(perfect)
    assert middle_loss(perfect, targets) < 0.05 * middle_loss(blind, targets)


def test_touching_things_are_divided_where_they_touch() -> None:
    out = divided(regions(), regions() > 0, predicted(two_cars()))
    ids = two_cars()[::2, ::2]
    assert set(np.unique(out)) == {0, 1, 2, 3}
    assert (out == 2).sum() == (ids == 7).sum(), "what has one middle stays whole"
    left, right = out[ids == 1], out[ids == 2]
    assert (left == np.median(left)).mean() > 0.95 and (right == np.median(right)).mean() > 0.95
    assert np.median(left) != np.median(right)


def test_without_middles_regions_stay() -> None:
    nothing = np.full((3, 24, 40), -9, np.float32)
    assert np.array_equal(divided(regions(), regions() > 0, nothing), regions())


def test_stuff_is_not_divided() -> None:
    nowhere = np.zeros(regions().shape, bool)
    assert np.array_equal(divided(regions(), nowhere, predicted(two_cars())), regions())


def test_a_speck_is_no_thing_of_its_own() -> None:
    """A second middle that hardly a pixel leads to."""
    middles = predicted(two_cars())
    middles[0, 16, 30] = middles[0, 20, 34] = 5.0
    alone = np.where(regions() == 2, 2, 0).astype(np.int32)
    assert set(np.unique(divided(alone, alone > 0, middles))) == {0, 2}
