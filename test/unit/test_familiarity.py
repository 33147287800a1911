"""In a world that the semantics do not know, nothing is believed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2vss_ros.semantics.familiarity import DISBELIEF, DOUBT, FAR, Familiarity, World
from sam2vss_ros.types import Frame
from streams import pipeline

USUAL = 0.85


def test_belief_falls_below_what_is_usual() -> None:
    assert Familiarity().add(USUAL - DOUBT, USUAL) == pytest.approx(1)
    assert Familiarity().add(USUAL - (DOUBT + DISBELIEF) / 2, USUAL) == pytest.approx(0.5)
    assert Familiarity().add(USUAL - 2 * DISBELIEF, USUAL) == 0


def test_a_single_frame_changes_little_and_another_scene_all() -> None:
    familiarity = Familiarity()
    familiarity.add(0.9, USUAL)
    assert familiarity.add(0.3, USUAL) > 0.95
    for _ in range(40):
        last = familiarity.add(0.3, USUAL)
    assert last == 0
    familiarity.clear()
    assert familiarity.add(0.9, USUAL) == 1


def test_distance_counts_against_confidence() -> None:
    """In deviations of the features of familiar images, on the mean over channels."""
    torch.manual_seed(0)
    deviations = torch.tensor([0.5, 1.0, 2.0, 4.0])
    world = World(4)
    world.learn(torch.randn(4000, 4) * deviations + 3)
    middle, away = torch.full((1, 4), 3.0), 3 + 2 * deviations[None]
    sure = torch.tensor([0.9])
    assert float(world.score(sure, middle)) == pytest.approx(0.9, abs=0.02)
    # Shrinkage makes small deviations count less.
    lost = 0.9 - float(world.score(sure, away))
    assert 0.5 * 2 * FAR < lost < 2 * FAR
    assert float(world.score(torch.tensor([0.5]), middle)) == pytest.approx(0.5, abs=0.02)


def test_noise_is_no_street() -> None:
    """The embedded semantics abstain: no pixel and no object has a class."""
    pipe = pipeline(min_class_score=0.3)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    result = pipe.process(Frame(image, 1))
    assert (result.label_image == pipe.config.unlabelled_id).mean() > 0.9
    assert not any(o.class_name for o in result.objects)
