"""Evidence over time: a textured picture, 120 x 160 pixels, that moves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sam2vss_ros.stream.motion import Motion
from sam2vss_ros.stream.smoothing import EvidenceMemory


def picture(shift: int = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    grains = rng.integers(0, 256, (30, 60, 3), dtype=np.uint8)
    wide = cv2.resize(grains, (320, 120), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(wide[:, 80 - shift : 240 - shift])


def halves_at(column: int, sure: float = 0.9) -> Tensor:
    """(2, 30, 40) log probabilities of class 0 left of a column and 1 right of it."""
    first = torch.full((30, 40), 1 - sure)
    first[:, :column] = sure
    return torch.stack([first, 1 - first]).log()


class Evidence:
    """Evidence kept along the flow of the pictures."""

    def __init__(self) -> None:
        self._motion, self._memory = Motion(), EvidenceMemory()

    def add(self, image: np.ndarray, log_dense: Tensor) -> Tensor:
        return self._memory.add(log_dense, self._motion.follow(image))

    def clear(self) -> None:
        self._motion.clear()
        self._memory.clear()


def test_evidence_of_a_still_picture_is_averaged() -> None:
    memory = Evidence()
    first = memory.add(picture(), halves_at(20))
    torch.testing.assert_close(first, halves_at(20))
    second = memory.add(picture(), halves_at(20, 0.4))
    # The past counts as four frames of 0.9 and 0.1, the present as one of 0.4 and 0.6.
    left, right = (0.9**4 * 0.4) ** 0.2, (0.1**4 * 0.6) ** 0.2
    shares = second[:, 2:-2, 2:-2].exp()
    assert shares[0, :, :16].numpy() == pytest.approx(left, abs=0.02)
    assert shares[1, :, :16].numpy() == pytest.approx(right, abs=0.02)
    assert shares[0, :, 20:].numpy() == pytest.approx(right, abs=0.02)
    assert (second.argmax(0) == halves_at(20).argmax(0)).all(), "one odd frame does not change it"
    memory.clear()
    torch.testing.assert_close(memory.add(picture(), halves_at(20, 0.4)), halves_at(20, 0.4))


def test_evidence_moves_along_with_the_picture() -> None:
    memory = Evidence()
    memory.add(picture(), halves_at(20))
    moved = memory.add(picture(8), halves_at(20, 0.5))  # 8 pixels are 2 cells
    assert (moved[:, 5:-5, 5:21].argmax(0) == 0).all()
    assert (moved[:, 5:-5, 23:-5].argmax(0) == 1).all()


def test_evidence_of_another_picture_is_not_kept() -> None:
    memory = Evidence()
    memory.add(np.bitwise_not(picture()), halves_at(20))
    now = memory.add(picture(), halves_at(20, 0.2))
    assert (now.argmax(0) == halves_at(20, 0.2).argmax(0)).float().mean() > 0.7
    small = torch.zeros(2, 10, 10).log_softmax(0)
    assert torch.equal(memory.add(picture(), small), small), "another network's grid"
    turned = np.ascontiguousarray(picture().transpose(1, 0, 2))
    assert torch.equal(memory.add(turned, small), small), "another image size"
