"""Networks that look at the next frame: the same answers, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.affinity.keys import KeyNet
from sam2vss_ros.errors import InputError
from sam2vss_ros.lookahead import looking_ahead
from sam2vss_ros.types import Frame, Prompt
from small_sam2 import BOTH_MODELS
from streams import assert_same, box, pipeline, run

Images = npt.NDArray[np.uint8]


def frames(images: Images) -> Iterator[Frame]:
    return (Frame(image, stamp) for stamp, image in enumerate(images, 1))


@pytest.mark.parametrize("model", BOTH_MODELS)
@pytest.mark.parametrize("mode", ["network", "refine", "fused"])
def test_answers_are_the_same(model: str, mode: str, street: Images) -> None:
    options = {"model": model, "mode": mode, "keyframe_interval": 3}
    ahead = pipeline(**options)
    answers = [ahead.process(f, looked) for f, looked in looking_ahead(ahead, frames(street[:8]))]
    expected = run(pipeline(**options), street[:8])
    assert len(answers) == 8
    for answer, alone in zip(answers, expected, strict=True):
        assert_same(answer, alone)


def test_the_next_frames_are_looked_at_meanwhile(
    street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, looks = pipeline(), threading.Semaphore(0)
    monkeypatch.setattr(pipe, "look", lambda frame: looks.release())
    ahead = looking_ahead(pipe, frames(street[:4]))
    for new in (3, 1, 0, 0):
        next(ahead)
        for _ in range(new):
            assert looks.acquire(timeout=60)
        assert not looks.acquire(timeout=0.05)


def test_keys_are_made_ahead(street: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `process` would want of an image beside the networks."""
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 1))
    pipe.add_prompt(Prompt(mask=box(5, 10, 65, 70)))  # large enough for coarse keys
    pipe.process(Frame(street[0], 2))
    seen = pipe.look(Frame(street[1], 3))
    with monkeypatch.context() as patch:
        patch.setattr(KeyNet, "forward", lambda *_: pytest.fail("made again"))
        (known,) = pipe.process(Frame(street[1], 3), lambda: seen).objects
    assert known.area


def test_a_frame_that_cannot_be_read_comes_after_the_one_before(street: Images) -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(street[:2])
        raise InputError("the third frame is broken")

    pipe, answers = pipeline(), []
    with pytest.raises(InputError, match="the third frame"):
        for frame, looked in looking_ahead(pipe, broken()):
            answers.append(pipe.process(frame, looked))
    assert [a.stamp_ns for a in answers] == [1, 2]


def test_what_a_network_raises_is_raised_for_its_frame(
    street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline()
    predict = pipe.perception.predict

    def fails_once(frame: Frame) -> object:
        if frame.stamp_ns == 2:
            raise RuntimeError("no second frame")
        return predict(frame)

    monkeypatch.setattr(pipe.perception, "predict", fails_once)
    answered = []
    for frame, looked in looking_ahead(pipe, frames(street[:3])):
        if frame.stamp_ns == 2:
            with pytest.raises(RuntimeError, match="no second frame"):
                pipe.process(frame, looked)
        else:
            answered.append(pipe.process(frame, looked).stamp_ns)
    assert answered == [1, 3]


def test_a_mode_that_changes_meanwhile(street: Images) -> None:
    """Who looked for refine has not asked for what the classifier needs, and for mode network
    nobody looks; either way the frame is answered as if nobody had."""
    modes = ("refine", "fused", "network", "fused", "refine")
    ahead, usual = pipeline(mode="refine"), pipeline(mode="refine")
    answers, expected = [], []
    for mode, (frame, looked) in zip(modes, looking_ahead(ahead, frames(street[:5])), strict=True):
        ahead.reconfigure(mode=mode)
        answers.append(ahead.process(frame, looked))
    for mode, frame in zip(modes, frames(street[:5]), strict=True):
        usual.reconfigure(mode=mode)
        expected.append(usual.process(frame))
    for answer, alone in zip(answers, expected, strict=True):
        assert_same(answer, alone)
