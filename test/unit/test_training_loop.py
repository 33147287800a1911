"""What every training run does."""

from __future__ import annotations

from sam2vss_ros.training.loop import PEAK_RATE, WARMUP_STEPS, learning_rate


def test_the_learning_rate_rises_rests_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1000) for step in range(1001)]
    assert rates[0] < 0.02 * PEAK_RATE and rates[WARMUP_STEPS] == rates[500] == PEAK_RATE
    assert 0 < rates[999] < 0.01 * PEAK_RATE and rates[1000] == 0
