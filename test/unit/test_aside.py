"""The dense head beside the tracking of objects: the same answers, and errors are not lost."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros import threads
from sam2vss_ros.aside import Aside
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.stages import features, track
from sam2vss_ros.types import Frame
from small_sam2 import BOTH_MODELS
from streams import assert_same, pipeline, run

Images = npt.NDArray[np.uint8]


def with_spare_thread(patch: pytest.MonkeyPatch, spare: bool) -> None:
    patch.setattr(Perception, "spares_thread", property(lambda _: spare))


@pytest.mark.parametrize("model", BOTH_MODELS)
@pytest.mark.parametrize("mode", ["refine", "classify", "fused"])
def test_answers_are_the_same(
    model: str, mode: str, street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for spare in (True, False):
        with_spare_thread(monkeypatch, spare)
        answers.append(run(pipeline(model=model, mode=mode, keyframe_interval=3), street[:8]))
    for beside, alone in zip(*answers, strict=True):
        assert_same(beside, alone)


def test_the_head_is_asked_beside(street: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run_head = Perception.run_head

    def noted(self: Perception, *args: object) -> object:
        asked.append(threading.current_thread().name)
        return run_head(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Perception, "run_head", noted)
    for spare in (True, False):
        with_spare_thread(monkeypatch, spare)
        pipe = pipeline()
        pipe.process(Frame(street[0], 1))
        pipe.close()
    assert asked[0].startswith("aside")
    assert asked[1] == threading.current_thread().name


@pytest.mark.parametrize(
    ("asked", "used", "processors", "spare"),
    [(0, 1, 2, True), (0, 2, 2, False), (0, 0, 2, False), (1, 1, 2, False)],
)
def test_a_thread_is_spared_where_a_processor_is(
    asked: int, used: int, processors: int, spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says how many threads there are to be has no more."""
    perception = pipeline().perception
    monkeypatch.setattr(perception, "config", PipelineConfig(threads=used))
    monkeypatch.setattr(perception, "_asked", PipelineConfig(threads=asked))
    monkeypatch.setattr(threads, "processors", lambda: processors)
    assert perception.spares_thread is spare


def test_after_an_error_the_stream_begins_anew(
    street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On either side; the other one has ended by then."""
    with_spare_thread(monkeypatch, True)
    pipe = pipeline()
    pipe.process(Frame(street[0], 1))
    for stage, name in ((features, "predict"), (track, "follow")):
        with monkeypatch.context() as patch:
            patch.setattr(stage, name, lambda *_: broken())
            with pytest.raises(RuntimeError, match="broken"):
                pipe.process(Frame(street[1], 2))
    answer = pipe.process(Frame(street[1], 2))
    alone = pipeline().process(Frame(street[1], 2))  # ids go on, all else is as there
    np.testing.assert_array_equal(answer.label_image, alone.label_image)
    np.testing.assert_array_equal(answer.instance_image > 0, alone.instance_image > 0)


def broken() -> None:
    raise RuntimeError("broken")


def test_what_is_done_aside_ends_with_the_block() -> None:
    aside, go, ended = Aside(), threading.Event(), threading.Event()

    def task() -> int:
        assert go.wait(60)
        ended.set()
        return 7

    with aside.doing(task) as found:
        go.set()
        assert found() == 7
    ended.clear()
    go.clear()
    threading.Timer(0.05, go.set).start()
    with pytest.raises(RuntimeError, match="broken"), aside.doing(task):
        broken()
    assert ended.is_set()
    aside.close()
