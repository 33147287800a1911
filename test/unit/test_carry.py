"""Images between looks of the networks: answered along the optical flow, and nothing is learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from pipelines import open_pipeline
from sam2vss_ros.lookahead import looking_ahead
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.stream.budget import DEGRADED, Level
from sam2vss_ros.types import Frame, Prompt, SemanticFrame
from small_sam2 import BOTH_MODELS, SMALL_SAM2
from streams import HEIGHT, WIDTH, assert_consistent, assert_same, box, find, ids, small_config

Images = npt.NDArray[np.uint8]

NS = 1_000_000_000


def opened(**options: object) -> VssPipeline:
    return open_pipeline(small_config(**{"carry": "on", **options}))


def frames(images: Iterable[Images], rate: float = 30.0) -> list[Frame]:
    """A camera's; the first is taken one second after the beginning of time."""
    return [Frame(image, NS + round(i * NS / rate)) for i, image in enumerate(images)]


def answers(pipe: VssPipeline, seen: Iterable[Frame]) -> list[SemanticFrame]:
    return [pipe.process(frame) for frame in seen]


def looks(results: Iterable[SemanticFrame]) -> list[bool]:
    return [not result.carried for result in results]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (15, [True] * 6),
        (20, [True] * 6),
        (24, [True, False] * 3),
        (30, [True, False] * 3),
        (60, [True, False, False] * 2),
        (1000, [True, False, False] * 2),
    ],
)
def test_the_networks_look_at_most_every_twentieth_of_a_second(
    rate: float, expected: list[bool], street: Images
) -> None:
    """And at one image in three at the least, whatever the stamps say."""
    still = [street[0]] * 6
    assert looks(answers(opened(), frames(still, rate))) == expected


def test_it_suits_the_embedded_model() -> None:
    assert open_pipeline(small_config(carry="auto")).config.carry == "on"
    assert opened(model=SMALL_SAM2, carry="auto").config.carry == "off"


def test_switched_off_every_image_is_looked_at(street: Images) -> None:
    assert all(looks(answers(opened(carry="off"), frames(street[:4]))))


@pytest.mark.parametrize("model", BOTH_MODELS)
@pytest.mark.parametrize("mode", ["refine", "fused"])
def test_an_answer_between_looks_is_whole(model: str, mode: str, street: Images) -> None:
    pipe = opened(model=model, mode=mode)
    for frame in frames(street[:8]):
        answer = pipe.process(frame)
        stages = ["carry", "fuse"] if answer.carried else None
        assert answer.stamp_ns == frame.stamp_ns
        if stages:
            assert list(answer.timings_ms) == stages
            assert not answer.keyframe
            answer = dataclasses.replace(answer, timings_ms=TIMES)
        assert_consistent(answer, frame.image, pipe)


TIMES = dict.fromkeys(["encode", "track", "discover", "classify", "fuse"], 0.0)


def test_what_is_carried_moves_with_the_image() -> None:
    """A picture that moves to the right, and a user's object in it."""
    grains = np.random.default_rng(0).integers(0, 256, (24, 64, 3), dtype=np.uint8)
    wide = np.kron(grains, np.ones((4, 4, 1), np.uint8))
    moving = [np.ascontiguousarray(wide[:, 64 - 3 * i : 64 - 3 * i + WIDTH]) for i in range(6)]
    pipe = opened(discovery="off")
    seen = frames(moving)
    answers(pipe, seen[:2])
    track_id = pipe.add_prompt(Prompt(mask=box(40, 30, 80, 70)))
    shown, looked, carried = answers(pipe, seen[2:5])
    assert (shown.carried, looked.carried, carried.carried) == (False, True, False)
    first, second = find(shown, track_id), find(looked, track_id)
    assert second.centroid[0] - first.centroid[0] == pytest.approx(3, abs=1)
    assert second.centroid[1] == pytest.approx(first.centroid[1], abs=1)
    assert second.area == pytest.approx(first.area, rel=0.1)


def test_looks_find_the_stream_as_the_last_one_left_it(street: Images) -> None:
    """Where nothing moves, as if the images between had not come, but for ages."""
    pipe, alone = opened(), opened()
    still = frames([street[0]] * 7)
    between = [answer for answer in answers(pipe, still) if not answer.carried]
    expected = answers(alone, still[::2])
    assert len(between) == len(expected) == 4
    for answer, other in zip(between, expected, strict=True):
        np.testing.assert_array_equal(answer.label_image, other.label_image)
        np.testing.assert_array_equal(answer.instance_image, other.instance_image)


def test_ages_count_all_images(street: Images) -> None:
    results = answers(opened(), frames([street[0]] * 5))
    track_id = ids(results[0])[0]
    assert [find(result, track_id).age for result in results] == [0, 1, 2, 3, 4]


def test_an_object_out_of_sight_stays_so_and_is_missed(
    street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = opened(confirm_frames=1, lost_after=100)
    seen = frames([street[0]] * 6)
    first = pipe.process(seen[0])
    track = pipe.stream.objects.all()[0]
    assert find(first, track.track_id).area
    pipe.process(seen[1])
    track.missed = 3
    monkeypatch.setattr(pipe.stream.objects, "observe", lambda *_: None)
    looked, carried = answers(pipe, seen[2:4])
    assert not looked.carried and carried.carried
    assert find(carried, track.track_id).frames_since_seen == 4
    assert not find(carried, track.track_id).area


def test_what_users_ask_for_is_looked_at_at_once(street: Images) -> None:
    pipe, seen = opened(), frames([street[0]] * 12)
    answers(pipe, seen[:3])
    track_id = pipe.add_prompt(Prompt(mask=box(10, 10, 40, 40)))
    answer = pipe.process(seen[3])
    assert not answer.carried and track_id in ids(answer)
    assert looks(answers(pipe, seen[4:6])) == [True, False]
    pipe.process(seen[6])
    assert pipe.remove_object(track_id)
    assert track_id not in ids(pipe.process(seen[7]))
    pipe.process(seen[8])
    pipe.reset()
    answer = pipe.process(seen[9])
    assert answer.keyframe and not answer.carried


def test_options_hold_from_the_next_image_on(street: Images) -> None:
    pipe, seen = opened(), frames([street[0]] * 8)
    pipe.process(seen[0])
    pipe.reconfigure(min_class_score=1.0)
    answer = pipe.process(seen[1])
    assert answer.carried and (answer.label_image == pipe.config.unlabelled_id).all()
    pipe.process(seen[2])
    pipe.reconfigure(mode="network")
    assert looks(answers(pipe, seen[3:6])) == [True] * 3
    pipe.reconfigure(mode="fused")
    assert looks(answers(pipe, seen[6:8])) == [True, False]


def test_what_was_not_decided_is_looked_at(street: Images) -> None:
    """In another mode, or without an entropy where one is wanted now."""
    pipe, seen = opened(mode="refine"), frames([street[0]] * 8)
    answers(pipe, seen[:1])
    pipe.reconfigure(mode="fused")
    assert looks(answers(pipe, seen[1:5])) == [True, True, False, True]
    pipe.wants_entropy = True
    results = answers(pipe, seen[5:8])
    assert looks(results) == [True, True, False]
    assert all(answer.entropy_image is not None for answer in results)


def test_another_scene_and_another_size_are_looked_at(street: Images) -> None:
    rng = np.random.default_rng(3)
    other = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pipe, seen = opened(), frames([street[0], other, street[0], street[0]])
    assert looks(answers(pipe, seen)) == [True, True, True, False]
    larger = np.ascontiguousarray(np.kron(street[0], np.ones((2, 2, 1), np.uint8)))
    assert not pipe.process(Frame(larger, seen[-1].stamp_ns + NS // 30)).carried


def test_an_object_whose_flow_is_doubted_is_looked_at() -> None:
    """Though nothing else in the image moves."""
    grains = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = np.ascontiguousarray(np.kron(grains, np.ones((4, 4, 1), np.uint8)))
    changed = image.copy()
    changed[40:60, 50:70] = 255 - changed[40:60, 50:70]
    for shown, looked in ((image, False), (changed, True)):
        pipe = opened(discovery="off")
        seen = frames([image, image, image, image, shown])
        answers(pipe, seen[:1])
        pipe.add_prompt(Prompt(mask=box(50, 40, 70, 60)))
        answers(pipe, seen[1:3])
        still = frames([shown], 30)[0]
        last = pipe.process(dataclasses.replace(still, stamp_ns=seen[3].stamp_ns))
        assert last.carried != looked
    pipe = opened(discovery="off")
    assert looks(answers(pipe, frames([image, changed]))) == [True, False], "no object, no doubt"


def test_labels_of_another_node_are_not_passed_over(street: Images) -> None:
    pipe = opened(network="topic")
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    seen = [dataclasses.replace(f, dense_labels=labels) for f in frames([street[0]] * 4)]
    assert all(looks(answers(pipe, seen)))


def test_a_frame_that_fails_begins_anew(street: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, seen = opened(), frames([street[0]] * 6)
    answers(pipe, seen[:2])
    with monkeypatch.context() as patch:
        patch.setattr(pipe.stream.tracker, "step", lambda *_: pytest.fail("no third frame"))
        with pytest.raises(pytest.fail.Exception, match="no third frame"):
            pipe.process(seen[2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe.perception, "encode_images", _fails)
        with pytest.raises(RuntimeError, match="broken"):
            pipe.process(seen[3])
    assert not pipe.process(seen[4]).carried


def _fails(*_: object) -> None:
    raise RuntimeError("broken")


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("rate", [15, 30, 60])
def test_who_looks_ahead_looks_at_the_same_images(
    rate: float, moves: bool, street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those whose flow is doubted, which only the turn itself can tell."""
    seen = frames(street[:9] if moves else [street[0]] * 9, rate)
    expected = answers(opened(), seen)
    ahead = opened()
    asked: list[int] = []
    look = ahead.look

    def noted(frame: Frame) -> object:
        found = look(frame)
        if found is not None:
            asked.append(frame.stamp_ns)
        return found

    monkeypatch.setattr(ahead, "look", noted)
    results = [ahead.process(frame, looked) for frame, looked in looking_ahead(ahead, seen)]
    for answer, alone in zip(results, expected, strict=True):
        assert_same(answer, alone)
    looked = [answer.stamp_ns for answer in results if not answer.carried]
    assert set(asked) <= set(looked) and (moves or asked == looked)


def test_where_time_is_short_every_second_image_is_carried(street: Images) -> None:
    """However far apart they are; until there is time again, or nobody asks for it any more."""
    now = seconds = 0.0

    def clock() -> float:
        nonlocal now
        now += seconds
        return now

    still = frames([street[0]] * 80, rate=5)
    pipe = open_pipeline(small_config(carry="on", target_fps=10.0), seconds=clock)
    assert all(looks(answers(pipe, still[:4])))
    seconds = 0.1
    results = answers(pipe, still[4:60])
    assert DEGRADED[Level.CARRY] in results[-1].degraded
    assert looks(results[-6:]) in ([True, False] * 3, [False, True] * 3)
    pipe.reconfigure(target_fps=0.0)
    pipe.process(still[60])
    assert all(looks(answers(pipe, still[61:65])))


def test_while_images_are_dropped_every_second_one_is_carried(street: Images) -> None:
    """However far apart they are; who looks ahead looks at the others alone."""
    pipe = opened()
    hurried = [False] * 3 + [True] * 5 + [False] * 2
    expected = [True] * 3 + [False, True] * 2 + [False] + [True] * 2
    results, asked = [], []
    for frame, now in zip(frames([street[0]] * 10, rate=5), hurried, strict=True):
        looked = pipe.look(frame, hurried=now)
        asked.append(looked is not None)
        results.append(pipe.process(frame, partial(lambda found: found, looked), hurried=now))
    assert looks(results) == asked == expected


def test_after_a_jump_in_time_the_networks_look(street: Images) -> None:
    """Though images are being dropped."""
    pipe, seen = opened(), frames([street[0]] * 5)
    assert looks(answers(pipe, seen[:3])) == [True, False, True], "the next one may be carried"
    later = [dataclasses.replace(f, stamp_ns=f.stamp_ns + 20 * NS) for f in seen[3:]]
    jumped, after = (pipe.process(frame, hurried=True) for frame in later)
    assert (jumped.carried, after.carried) == (False, True)
    assert jumped.time_jump


def test_a_silent_camera_holds_nothing(street: Images) -> None:
    pipe, seen = opened(), frames([street[0]] * 4)
    answers(pipe, seen[:2])
    pipe.release()
    assert not pipe.process(seen[3]).carried
