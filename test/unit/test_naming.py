"""What a stream remembers in text space, and when it looks."""

from __future__ import annotations

import pytest
import torch

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.vocabulary.words import Naming
from sam2vss_ros.stream.budget import Effort
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.stream.naming import VIEWS, RunningVector, TextMemory, weight_of

CONFIG = PipelineConfig(keyframe_interval=10)
FULL, SHORT = Effort(), Effort(early_search=False, search_stretch=2)
AXES = torch.eye(3)
NAMING = Naming(AXES, torch.tensor([0, 1, 2]), 20.0, torch.zeros(2, 1))
SHARES = torch.zeros(3, 4, 4)


def test_a_better_view_counts_more() -> None:
    running = RunningVector()
    running.add(AXES[0], 0.03)
    running.add(AXES[1], 0.01)
    torch.testing.assert_close(running.mean, torch.tensor([0.75, 0.25, 0]))


def test_old_views_fade() -> None:
    running = RunningVector()
    for _ in range(100):
        running.add(AXES[0], 0.02)
    for _ in range(2 * VIEWS):
        running.add(AXES[1], 0.02)
    assert running.mean is not None and running.mean[1] > 0.8


def test_a_glimpse_does_not_outweigh_what_was_seen_well() -> None:
    running = RunningVector()
    running.add(AXES[0], 0.05)
    for _ in range(5):
        running.add(AXES[1], 0.0005)
    assert running.mean is not None and running.mean[0] > 0.9


def test_the_weight_of_a_view() -> None:
    assert weight_of(0.02, 0.5, 0.5) == pytest.approx(0.005)
    assert weight_of(0.5, 1, 1) == weight_of(0.05, 1, 1)


def test_looks_are_due_on_schedule_and_where_the_stream_breaks() -> None:
    text = TextMemory()
    assert text.due(0, False, CONFIG, FULL)
    text.looked(0, SHARES)
    assert not text.due(9, False, CONFIG, FULL)
    assert text.due(1, True, CONFIG, FULL) and text.due(10, False, CONFIG, FULL)
    assert not text.due(19, False, CONFIG, SHORT) and text.due(20, False, CONFIG, SHORT)
    text.renamed()
    assert text.due(1, False, CONFIG, FULL)


def test_new_objects_call_for_a_look_which_waits_where_time_is_short() -> None:
    text = TextMemory()
    text.looked(0, SHARES)
    assert text.due_for([1], 1, FULL) and not text.due_for([], 1, FULL)
    assert not text.due_for([1], 7, SHORT) and text.due_for([1], 8, SHORT)
    text.learn(1, AXES[0], 0.1)
    assert not text.due_for([1], 1, FULL)


def test_objects_are_called_by_all_that_was_seen_of_them() -> None:
    text = TextMemory()
    text.learn(5, AXES[0], 0.05)
    text.learn(5, AXES[1], 0.01)
    text.learn(6, AXES[1], 0.01)
    text.learn(7, torch.zeros(3), 0.01)
    text.learn(8, AXES[1], 0.0)
    shares = text.shares([5, 6, 7, 8, 9], NAMING)
    assert shares.argmax(1).tolist() == [0, 1, 2, 2, 2]  # the last: none of the words
    text.keep([6])
    assert text.shares([5, 6], NAMING).argmax(1).tolist() == [2, 1]
    text.renamed()
    assert text.shares([6], NAMING).argmax(1).tolist() == [1]


def test_the_patches_move_with_the_image() -> None:
    text = TextMemory()
    assert text.dense((2, 2), NAMING)[:, 0, 0].tolist() == [0, 0, 1]
    shares = torch.zeros(3, 1, 8)
    shares[2] = 1
    shares[:, 0, 2] = torch.tensor([1.0, 0, 0])
    text.looked(0, shares)
    columns = torch.linspace(-7 / 8, 7 / 8, 8) - 3 * 2 / 8  # it was three patches to the left
    text.carry(Flow(torch.stack([columns[None], torch.zeros(1, 8), torch.ones(1, 8)])))
    assert text.dense((1, 8), NAMING)[0, 0].argmax() == 5
