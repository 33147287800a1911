"""The second look, at the mirror image: now and then, and where a stream begins or breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.semantics import second_look
from sam2vss_ros.stream.budget import DEGRADED, Budget, Effort, Level
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip() -> list[Image]:
    return list(make_clip(7, 6, (96, 128), kind="street").frames)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The stamps of the frames that were looked at again."""
    seen: list[int] = []
    look_again = Perception.look_again

    def noted(self: Perception, frame: Frame) -> torch.Tensor:
        seen.append(frame.stamp_ns)
        return look_again(self, frame)

    monkeypatch.setattr(Perception, "look_again", noted)
    yield seen


def play(pipeline: VssPipeline, images: list[Image], seconds: float = 0.1) -> None:
    for i, image in enumerate(images):
        pipeline.process(Frame(image, int(1e9 * seconds * i)))


def test_one_frame_in_a_few_is_looked_at_again() -> None:
    due = {n: [i for i in range(7) if second_look.is_due(False, i, n)] for n in (0, 1, 3)}
    assert due == {0: [], 1: [0, 1, 2, 3, 4, 5, 6], 3: [0, 3, 6]}
    assert second_look.is_due(True, 1, 0) and second_look.is_due(True, 1, 3)


def test_both_looks_are_one_prediction() -> None:
    first = torch.tensor([0.8, 0.2]).log()[:, None, None].expand(2, 8, 12)
    second = torch.tensor([0.1, 0.9]).log()[:, None, None].expand(2, 8, 12)
    both = second_look.joined(first, second)
    assert both.shape == (2, 8, 12)
    torch.testing.assert_close(both.exp().sum(0), torch.ones(8, 12))
    ratio = (1 / 3) * np.log(0.8 / 0.2) + (2 / 3) * np.log(0.1 / 0.9)
    torch.testing.assert_close(both[0] - both[1], torch.full((8, 12), float(ratio)))


def test_it_sees_the_same_scene() -> None:
    """The mirror image is turned back: both looks agree in most places, and not in all."""
    pipeline = open_pipeline(PipelineConfig())
    image = make_clip(7, 1, (360, 480), kind="street").frames[0]
    perception, frame = pipeline.perception, Frame(image, 0)
    with perception.arithmetic():
        first = perception.run_head(perception.trunk_maps(frame)).logits[0].float()
        second = perception.look_again(frame)
    assert second.shape == first.shape
    torch.testing.assert_close(second.exp().sum(0), torch.ones(second.shape[1:]))
    only = second_look.joined(torch.zeros_like(first), second).argmax(0)
    agree = (only == first.argmax(0)).float().mean()
    turned = (only.flip(1) == first.argmax(0)).float().mean()
    assert agree > 0.7 and agree > turned and agree < 1


@pytest.mark.parametrize("mode", ["refine", "classify", "fused"])
def test_a_stream_is_looked_at_again_where_it_begins_and_breaks(
    mode: str, clip: list[Image], looks: list[int]
) -> None:
    pipeline = open_pipeline(PipelineConfig(mode=mode, second_look_interval=0))
    play(pipeline, [clip[0]] * 3)
    assert looks == [0]
    pipeline.process(Frame(np.bitwise_not(clip[0]), 300_000_000))
    pipeline.process(Frame(np.bitwise_not(clip[0]), 400_000_000))
    assert looks == [0, 300_000_000]
    pipeline.reset()
    pipeline.process(Frame(np.bitwise_not(clip[0]), 500_000_000))
    assert looks[2:] == [500_000_000]


def test_a_stream_is_looked_at_again_on_one_frame_in_a_few(
    clip: list[Image], looks: list[int]
) -> None:
    pipeline = open_pipeline(PipelineConfig(second_look_interval=2))
    play(pipeline, [clip[0]] * 5)
    assert looks == [0, 200_000_000, 400_000_000]
    pipeline.reconfigure(second_look_interval=0)
    pipeline.process(Frame(clip[0], 500_000_000))
    pipeline.process(Frame(clip[0], 600_000_000))
    assert len(looks) == 3


def test_mode_network_looks_once(clip: list[Image], looks: list[int]) -> None:
    play(open_pipeline(PipelineConfig(mode="network")), clip[:2], seconds=5.0)
    assert looks == []


def test_where_time_is_short_one_look_has_to_do(
    clip: list[Image], looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(Effort(), degraded=(DEGRADED[Level.DISCOVERY],))
    monkeypatch.setattr(Budget, "effort", lambda _: short)
    play(open_pipeline(PipelineConfig(target_fps=30.0)), clip[:2], seconds=5.0)
    assert looks == []


def test_what_another_network_says_is_not_looked_at_again(
    clip: list[Image], looks: list[int]
) -> None:
    labels = np.full(clip[0].shape[:2], 3, np.uint8)
    pipeline = open_pipeline(PipelineConfig(network="topic"))
    answer = pipeline.process(Frame(clip[0], 0, dense_labels=labels))
    assert looks == [] and (answer.label_image == 3).mean() > 0.9
