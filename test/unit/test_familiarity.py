"""In a world that the semantics do not know, nothing is believed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.semantics.familiarity import SPAN, Familiarity
from sam2vss_ros.types import Frame
from streams import pipeline

USUAL = 0.9


def sure(confidence: float) -> Tensor:
    """A dense prediction of that confidence everywhere."""
    rest = (1 - confidence) / 3
    return torch.tensor([confidence, rest, rest, rest]).log()[:, None, None].expand(4, 6, 8)


def test_as_sure_as_usual_is_familiar() -> None:
    assert Familiarity().add(sure(0.95), USUAL) == 1
    assert Familiarity().add(sure(USUAL - SPAN / 2), USUAL) == pytest.approx(0.5)
    assert Familiarity().add(sure(USUAL - 2 * SPAN), USUAL) == 0


def test_a_single_frame_changes_little_and_another_scene_all() -> None:
    familiarity = Familiarity()
    familiarity.add(sure(0.95), USUAL)
    assert familiarity.add(sure(0.5), USUAL) > 0.95
    for _ in range(40):
        last = familiarity.add(sure(0.5), USUAL)
    assert last == 0
    familiarity.clear()
    assert familiarity.add(sure(0.95), USUAL) == 1


def test_noise_is_no_street() -> None:
    """The embedded semantics abstain: no pixel and no object has a class."""
    pipe = pipeline(min_class_score=0.3)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    result = pipe.process(Frame(image, 1))
    assert (result.label_image == pipe.config.unlabelled_id).mean() > 0.9
    assert not any(o.class_name for o in result.objects)
