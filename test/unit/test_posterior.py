"""The class posterior of an object."""

from __future__ import annotations

import pytest
import torch

from sam2vss_ros.semantics.posterior import ClassPosterior


def test_a_posterior_starts_even_and_sums_to_one() -> None:
    posterior = ClassPosterior(4)
    torch.testing.assert_close(posterior.probabilities(), torch.full((4,), 0.25))
    for seed in range(5):
        torch.manual_seed(seed)
        posterior.add(torch.randn(4).softmax(0), 0.9)
        assert posterior.probabilities().sum() == pytest.approx(1, abs=1e-5)


def test_early_evidence_weighs_equally_then_the_past_fades() -> None:
    a, b = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    posterior = ClassPosterior(2)
    posterior.add(a, 0.9)
    torch.testing.assert_close(posterior.probabilities(), a)
    posterior.add(b, 0.9)
    torch.testing.assert_close(posterior.probabilities(), torch.tensor([0.5, 0.5]))
    for _ in range(20):
        posterior.add(a, 0.9)
    assert posterior.probabilities()[0] > 0.8
    steady = ClassPosterior(2)
    for _ in range(30):
        steady.add(a, 0.9)
    steady.add(b, 0.9)
    assert steady.probabilities()[0] > 0.75, "one odd frame does not change it"
    forgetful = ClassPosterior(2)
    forgetful.add(a, 0.0)
    forgetful.add(b, 0.0)
    torch.testing.assert_close(forgetful.probabilities(), b)


def test_a_class_that_the_user_gave_stays() -> None:
    posterior = ClassPosterior(3, fixed_class=1)
    posterior.add(torch.tensor([0.98, 0.01, 0.01]), 0.5)
    assert posterior.probabilities().tolist() == [0, 1, 0]
