"""Second looks, at mirror images: now and then, where a stream begins, and at what stands alone."""

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
from sam2vss_ros.semantics.familiarity import Familiarity
from sam2vss_ros.semantics.second_look import ALONE, AMONG_OTHERS
from sam2vss_ros.stream.budget import DEGRADED, Budget, Effort, Level
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.stream.scene import Break, Continuity
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def clip() -> list[Image]:
    return list(make_clip(7, 6, (96, 128), kind="street").frames)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, float]]]:
    """The frames that were looked at again, by their stamps in ms, and the sizes of the looks.
    Every scene passes for a known one."""
    seen: list[tuple[int, float]] = []
    look_again = Perception.look_again

    def noted(self: Perception, frame: Frame, scale: float) -> torch.Tensor:
        seen.append((frame.stamp_ns // 1_000_000, scale))
        return look_again(self, frame, scale)

    monkeypatch.setattr(Perception, "look_again", noted)
    monkeypatch.setattr(Familiarity, "belief", lambda *_: 1.0)
    yield seen


def play(pipeline: VssPipeline, images: list[Image], seconds: float = 0.1) -> None:
    for i, image in enumerate(images):
        pipeline.process(Frame(image, int(1e9 * seconds * i)))


def flow(belief: float) -> Flow:
    return Flow(torch.full((3, 8, 12), belief))


def test_one_frame_in_a_few_is_looked_at_again() -> None:
    for interval, due in {0: [], 3: [0, 3, 6]}.items():
        sizes = [second_look.sizes(False, flow(0.9), i, interval) for i in range(7)]
        assert [i for i, size in enumerate(sizes) if size] == due
        assert {size for size in sizes if size} <= {AMONG_OTHERS}


@pytest.mark.parametrize("interval", [0, 1, 3])
@pytest.mark.parametrize("before", [None, flow(0.1), flow(0.9)])
def test_where_a_stream_begins_the_frame_is_among_those_to_come(
    interval: int, before: Flow | None
) -> None:
    assert second_look.sizes(True, before, 1, interval) == AMONG_OTHERS
    assert second_look.sizes(False, None, 1, interval) == AMONG_OTHERS


def test_what_stands_alone_is_seen_larger_and_smaller() -> None:
    assert second_look.sizes(False, flow(0.1), 1, 4) == ALONE
    assert min(ALONE) < 1 < max(ALONE)
    assert second_look.sizes(False, flow(0.9), 1, 1) == ALONE
    for index, size in ((1, ()), (4, AMONG_OTHERS)):
        assert second_look.sizes(False, flow(0.1), index, 4, hurried=True) == size
    assert second_look.sizes(False, flow(0.9), 1, 1, hurried=True) == AMONG_OTHERS
    assert second_look.sizes(False, flow(0.1), 1, 0) == ()


@pytest.mark.parametrize("size", [(8, 12), (12, 18), (6, 9)])
def test_all_looks_are_one_prediction(size: tuple[int, int]) -> None:
    first = torch.tensor([0.8, 0.2]).log()[:, None, None].expand(2, 8, 12)
    second = torch.tensor([0.1, 0.9]).log()[:, None, None].expand(2, *size)
    third = torch.tensor([0.5, 0.5]).log()[:, None, None].expand(2, 8, 12)
    for looks, weights in (([second], [1 / 3, 2 / 3]), ([second, third], [1 / 3, 1 / 3])):
        joined = second_look.joined(first, looks)
        assert joined.shape == (2, 8, 12)
        torch.testing.assert_close(joined.exp().sum(0), torch.ones(8, 12))
        ratio = weights[0] * np.log(0.8 / 0.2) + weights[1] * np.log(0.1 / 0.9)
        torch.testing.assert_close(joined[0] - joined[1], torch.full((8, 12), float(ratio)))


@pytest.mark.parametrize("scale", [*AMONG_OTHERS, *ALONE])
def test_it_sees_the_same_scene(scale: float) -> None:
    """The mirror image is turned back: both looks agree in most places, and not in all."""
    pipeline = open_pipeline(PipelineConfig())
    image = make_clip(7, 1, (360, 480), kind="street").frames[0]
    perception, frame = pipeline.perception, Frame(image, 0)
    with perception.arithmetic():
        first = perception.run_head(perception.trunk_maps(frame)).logits[0].float()
        second = perception.look_again(frame, scale)
    rows, columns = (round(side * scale) for side in first.shape[1:])
    assert abs(second.shape[1] - rows) <= 4 and abs(second.shape[2] - columns) <= 4
    torch.testing.assert_close(second.exp().sum(0), torch.ones(second.shape[1:]))
    only = second_look.joined(torch.zeros_like(first), [second]).argmax(0)
    agree = (only == first.argmax(0)).float().mean()
    turned = (only.flip(1) == first.argmax(0)).float().mean()
    assert agree > 0.7 and agree > turned and agree < 1


@pytest.mark.parametrize("mode", ["refine", "classify", "fused"])
def test_a_stream_is_looked_at_again_where_it_begins_and_breaks(
    mode: str, clip: list[Image], looks: list[tuple[int, float]]
) -> None:
    pipeline = open_pipeline(PipelineConfig(mode=mode, second_look_interval=0))
    play(pipeline, [clip[0]] * 3)
    assert looks == [(0, 1.0)]
    pipeline.process(Frame(clip[0], 60_000_000_000))
    pipeline.process(Frame(clip[0], 60_100_000_000))
    assert looks[1:] == [(60_000, 1.0)]
    pipeline.reset()
    pipeline.process(Frame(clip[0], 60_200_000_000))
    assert looks[2:] == [(60_200, 1.0)]


def test_a_stream_is_looked_at_again_on_one_frame_in_a_few(
    clip: list[Image], looks: list[tuple[int, float]]
) -> None:
    pipeline = open_pipeline(PipelineConfig(second_look_interval=2))
    play(pipeline, [clip[0]] * 5)
    assert looks == [(0, 1.0), (200, 1.0), (400, 1.0)]
    pipeline.reconfigure(second_look_interval=0)
    pipeline.process(Frame(clip[0], 500_000_000))
    pipeline.process(Frame(clip[0], 600_000_000))
    assert len(looks) == 3


def far_apart() -> list[Image]:
    """Images of one street that have little in common."""
    return [clip.frames[0] for clip in (make_clip(n, 1, (96, 128), kind="street") for n in (7, 9))]


def test_images_that_have_little_in_common_are_seen_larger_and_smaller(
    looks: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Continuity, "compare", lambda *_: Break())  # or it were another scene
    pipeline = open_pipeline(PipelineConfig())
    play(pipeline, far_apart())
    assert looks == [(0, 1.0), *((100, size) for size in ALONE)]


def test_while_frames_are_dropped_none_is_seen_larger(
    looks: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Continuity, "compare", lambda *_: Break())
    pipeline = open_pipeline(PipelineConfig())
    for i, image in enumerate(far_apart()):
        pipeline.process(Frame(image, i), hurried=True)
    assert looks == [(0, 1.0)]


def test_where_nothing_is_believed_one_look_has_to_do(
    clip: list[Image], looks: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Familiarity, "belief", lambda *_: 0.0)
    play(open_pipeline(PipelineConfig(second_look_interval=1)), clip[:2])
    assert looks == []


def test_mode_network_looks_once(clip: list[Image], looks: list[tuple[int, float]]) -> None:
    play(open_pipeline(PipelineConfig(mode="network")), clip[:2], seconds=5.0)
    assert looks == []


def test_where_time_is_short_one_look_has_to_do(
    clip: list[Image], looks: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(Effort(), degraded=(DEGRADED[Level.DISCOVERY],))
    monkeypatch.setattr(Budget, "effort", lambda _: short)
    play(open_pipeline(PipelineConfig(target_fps=30.0)), clip[:2], seconds=5.0)
    assert looks == []
