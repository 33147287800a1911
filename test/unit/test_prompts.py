"""What users ask of a running pipeline: prompts and removals."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stages import classify
from sam2vss_ros.types import Frame, Prompt, TrackedObject, TrackState
from small_sam2 import BOTH_MODELS
from streams import HEIGHT, WIDTH, Eyes, assert_consistent, box, find, ids, look_down, pipeline, run


def test_a_mask_is_taken_as_given(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 1))
    wanted = box(30, 20, 80, 70)
    track_id = pipe.add_prompt(Prompt(mask=wanted, class_id=8))
    result = pipe.process(Frame(street[1], 2))
    assert_consistent(result, street[1], pipe)
    found = find(result, track_id)
    shown = result.instance_image == track_id
    assert (shown & wanted).sum() / (shown | wanted).sum() > 0.95
    assert (found.class_id, found.class_name, found.class_score) == (8, "Car", 1.0)
    assert (found.age, found.state) == (0, TrackState.TENTATIVE)


def test_a_point_and_a_box_find_something_where_they_point(
    street: npt.NDArray[np.uint8],
) -> None:
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 1))
    label = np.array([1], np.int32)
    point = pipe.add_prompt(Prompt(points=np.array([[20.0, 90.0]], np.float32), point_labels=label))
    boxed = pipe.add_prompt(Prompt(box=(70.0, 10.0, 110.0, 50.0)))
    result = pipe.process(Frame(street[1], 2))
    assert_consistent(result, street[1], pipe)
    assert (result.instance_image[86:96, 16:26] == point).any()
    x, y, width, height = find(result, boxed).box
    assert width and x >= 66 and y >= 6 and x + width <= 114 and y + height <= 54


def test_a_mask_of_one_pixel_is_seen() -> None:
    pipe = pipeline(discovery="off")
    image = np.zeros((600, 800, 3), np.uint8)
    pipe.process(Frame(image, 1))
    mask = np.zeros((600, 800), bool)
    mask[300, 401] = True
    track_id = pipe.add_prompt(Prompt(mask=mask))
    found = find(pipe.process(Frame(image, 2)), track_id)
    assert found.area > 0 and found.centroid == pytest.approx((401, 300), abs=10)


def test_prompts_that_do_not_fit(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    good = Prompt(box=(1, 1, 9, 9))
    with pytest.raises(ValueError, match="no image has come yet"):
        pipe.add_prompt(good)
    pipe.process(Frame(street[0], 1))
    one = np.array([1], np.int32)
    for prompt, named in (
        (Prompt(box=(1, 1, WIDTH + 1, 9)), f"inside {WIDTH} x {HEIGHT}"),
        (Prompt(box=(-1, 1, 9, 9)), "inside"),
        (Prompt(points=np.array([[5, HEIGHT + 1]], np.float32), point_labels=one), "inside"),
        (Prompt(points=np.array([[np.nan, 5]], np.float32), point_labels=one), "inside"),
        (Prompt(mask=np.ones((HEIGHT, WIDTH - 1), bool)), f"mask: {WIDTH - 1} x {HEIGHT}"),
        (Prompt(box=(1, 1, 9, 9), class_id=99), "class_id: 99 is not in catalog camvid"),
    ):
        with pytest.raises(ValueError, match=named):
            pipe.add_prompt(prompt)
    assert pipe.process(Frame(street[1], 2)).objects


def test_no_more_prompts_than_places(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(max_objects=2, discovery="off")
    pipe.process(Frame(street[0], 1))
    prompts = [Prompt(mask=box(x, 10, x + 30, 50)) for x in (5, 45, 85)]
    taken = [pipe.add_prompt(p) for p in prompts[:2]]
    with pytest.raises(ValueError, match="max_objects: all 2 places are taken"):
        pipe.add_prompt(prompts[2])
    assert ids(pipe.process(Frame(street[1], 2))) == taken
    with pytest.raises(ValueError, match="max_objects"):
        pipe.add_prompt(prompts[2])
    assert pipe.remove_object(taken[0])
    third = pipe.add_prompt(prompts[2])  # its place is as good as free
    assert ids(pipe.process(Frame(street[2], 3))) == [taken[1], third]
    pipe.reset()
    again = [pipe.add_prompt(p) for p in prompts[:2]]
    assert ids(pipe.process(Frame(street[3], 4))) == again


def full_memory(street: npt.NDArray[np.uint8], **options: object) -> tuple[VssPipeline, list[int]]:
    """A pipeline that has found as much as it may remember, and the ids in the order in which they
    would give way."""
    pipe = pipeline(keyframe_interval=2, **options)
    result = run(pipe, street[:3])[-1]
    assert len(result.objects) == pipe.config.max_objects

    def certainty(o: TrackedObject) -> float:
        return (o.state == TrackState.CONFIRMED) + o.predicted_iou * o.visibility

    return pipe, [o.track_id for o in sorted(result.objects, key=certainty)]


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_what_the_user_asks_for_takes_the_place_of_the_least_certain(
    model: str, street: npt.NDArray[np.uint8]
) -> None:
    """Points, a box and a mask between two frames; then nobody else gives way."""
    pipe, found = full_memory(street, model=model, max_objects=3)
    point = Prompt(points=np.array([[20, 90]], np.float32), point_labels=np.array([1], np.int32))
    prompts = [point, Prompt(box=(70.0, 10.0, 110.0, 50.0)), Prompt(mask=box(5, 10, 35, 50))]
    asked = [pipe.add_prompt(p) for p in prompts[:2]]
    result = pipe.process(Frame(street[3], 4))
    assert_consistent(result, street[3], pipe)
    assert ids(result) == [found[-1], *asked]
    asked.append(pipe.add_prompt(prompts[2]))
    assert ids(pipe.process(Frame(street[4], 5))) == asked
    for t in range(5, 9):
        with pytest.raises(ValueError, match="all 3 places are taken by objects that users asked"):
            pipe.add_prompt(prompts[t % 3])
        assert ids(pipe.process(Frame(street[t], t + 1))) == asked
    assert pipe.remove_object(asked[0])
    again = pipe.add_prompt(prompts[0])
    assert ids(pipe.process(Frame(street[9], 10))) == [*asked[1:], again]


def test_a_search_displaces_nothing_that_was_asked_for(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is out of sight for long, and everything on the image is unexplained."""
    pipe, _ = full_memory(street, max_objects=2, lost_after=1)
    eyes = Eyes(pipe, monkeypatch)
    asked = [pipe.add_prompt(Prompt(mask=box(x, 10, x + 30, 50))) for x in (5, 45)]
    for t in range(3, 6):
        assert ids(pipe.process(Frame(street[t], t + 1))) == asked
    eyes.shut = True
    for t in range(6, 12):
        assert ids(pipe.process(Frame(255 - street[t], t + 1))) == asked


def test_prompts_of_another_scene_go_with_it(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(discovery="off")
    prompt = Prompt(mask=box(30, 20, 80, 70))
    pipe.process(Frame(street[0], 10**10))
    pipe.add_prompt(prompt)
    pipe.reset()
    assert pipe.process(Frame(street[1], 10**10 + 1)).objects == ()
    pipe.add_prompt(prompt)
    assert pipe.process(Frame(street[1], 50)).objects == (), "time went back"


def test_a_prompt_points_at_the_same_place_when_the_image_size_changes(
    street: npt.NDArray[np.uint8],
) -> None:
    label = np.array([1], np.int32)
    for given in (
        Prompt(mask=box(30, 20, 80, 70)),
        Prompt(box=(70.0, 10.0, 110.0, 50.0)),
        Prompt(points=np.array([[20.0, 90.0]], np.float32), point_labels=label),
    ):
        found = []
        for size in ((WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT)):
            pipe = pipeline(discovery="off")
            pipe.process(Frame(street[0], 1))
            pipe.add_prompt(given)
            big = cv2.resize(street[0], size, interpolation=cv2.INTER_LINEAR)
            found.append(look_down(pipe.process(Frame(big, 2))) > 0)
        assert found[0].any() and (found[0] == found[1]).mean() > 0.95


def test_what_the_user_asked_for_outlives_its_double(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(keyframe_interval=2)
    still = street[0]
    first = pipe.process(Frame(still, 1))
    biggest = max(first.objects, key=lambda o: o.area)
    pipe.remove_object(next(o.track_id for o in first.objects if o is not biggest))
    double = first.instance_image == biggest.track_id
    asked = pipe.add_prompt(Prompt(mask=double, class_id=9))
    results = run(pipe, np.stack([still] * 3), start=2)
    assert asked in ids(results[-1]) and biggest.track_id not in ids(results[-1])


def test_discovery_leaves_the_place_that_a_prompt_was_promised(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt comes while the frame is being searched, and takes the last place."""
    pipe = pipeline(max_objects=1)
    run(pipe, street[:1])
    pipe.reset()
    asked: list[int] = []
    assert pipe.source is not None
    propose = pipe.source.propose

    def slowly(*args: torch.Tensor) -> object:
        found = propose(*args)  # type: ignore[arg-type]
        asked.append(pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70))))
        return found

    monkeypatch.setattr(pipe.source, "propose", slowly)
    assert not pipe.process(Frame(street[1], 2)).objects
    assert ids(pipe.process(Frame(street[2], 3))) == asked


def test_a_prompt_that_finds_nothing_is_not_seen(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(discovery="off", confirm_frames=2)
    eyes = Eyes(pipe, monkeypatch)
    from_masks = pipe.stream.tracker.from_masks

    def nothing(*args: object) -> Tracked:
        found = from_masks(*args)  # type: ignore[arg-type]
        return dataclasses.replace(found, masks=found.masks * 0 - 10, score=found.score * 0 - 10)

    monkeypatch.setattr(pipe.stream.tracker, "from_masks", nothing)
    pipe.process(Frame(street[0], 1))
    track_id = pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
    eyes.shut = True
    result = pipe.process(Frame(street[1], 2))
    assert find(result, track_id).frames_since_seen == 1 and result.coverage == 0
    assert pipe.process(Frame(street[2], 3)).objects == ()


def test_removing_objects(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    first, *others = ids(pipe.process(Frame(street[0], 1)))
    assert others
    assert pipe.remove_object(first) and not pipe.remove_object(first)
    assert not pipe.remove_object(999)
    assert ids(pipe.process(Frame(street[1], 2))) == others
    assert not pipe.remove_object(first)
    waiting = pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
    assert pipe.remove_object(waiting) and not pipe.remove_object(waiting)
    assert waiting not in ids(pipe.process(Frame(street[2], 3)))


def test_requests_while_the_prompts_before_are_being_looked_for(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompts are taken, but their objects not made yet."""
    pipe = pipeline(max_objects=2, discovery="off")
    pipe.process(Frame(street[0], 1))
    prompts = [Prompt(mask=box(x, 10, x + 30, 50)) for x in (5, 45, 85)]
    first, second = (pipe.add_prompt(p) for p in prompts[:2])
    step, late = pipe.stream.tracker.step, list[int]()

    def ask_and_step(image: functional.ImageFeatures, slots: list[int], *flow: Any) -> Tracked:
        assert not len(pipe.stream.objects)
        with pytest.raises(ValueError, match="max_objects: all 2 places are taken"):
            pipe.add_prompt(prompts[2])
        assert pipe.remove_object(first) and not pipe.remove_object(first)
        late.append(pipe.add_prompt(prompts[2]))
        return step(image, slots, *flow)

    with monkeypatch.context() as patch:
        patch.setattr(pipe.stream.tracker, "step", ask_and_step)
        assert ids(pipe.process(Frame(street[1], 2))) == [first, second]
    assert ids(pipe.process(Frame(street[2], 3))) == [second, *late] and len(late) == 1


def test_a_frame_that_fails_takes_no_prompt_with_it(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those that the user has taken back meanwhile, or reset away."""
    pipe = pipeline(max_objects=2, discovery="off")
    pipe.process(Frame(street[0], 1))
    prompts = [Prompt(mask=box(x, 10, x + 30, 50)) for x in (5, 45, 85)]
    meanwhile: list[Callable[[], object]] = []

    def fail(*_: object) -> Tracked:
        for act in meanwhile:
            act()
        raise RuntimeError("out of memory")

    def frame_that_fails(stamp: int, *acts: Callable[[], object]) -> None:
        meanwhile[:] = acts
        with monkeypatch.context() as patch:
            patch.setattr(pipe.stream.tracker, "step", fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                pipe.process(Frame(street[0], stamp))

    first, second = (pipe.add_prompt(p) for p in prompts[:2])
    frame_that_fails(2)
    with pytest.raises(ValueError, match="max_objects: all 2 places are taken"):
        pipe.add_prompt(prompts[2])
    frame_that_fails(3, lambda: pipe.remove_object(first))
    third = pipe.add_prompt(prompts[2])
    assert ids(pipe.process(Frame(street[0], 4))) == [second, third]
    assert pipe.remove_object(second)
    pipe.add_prompt(prompts[0])
    frame_that_fails(5, pipe.reset)
    assert ids(pipe.process(Frame(street[0], 6))) == []


def test_a_prompt_whose_object_has_begun_is_not_lost_either(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else begins anew after a frame that failed, with ids of its own."""
    pipe = pipeline(max_objects=2, discovery="off")
    pipe.process(Frame(street[0], 1))
    first = pipe.add_prompt(Prompt(mask=box(5, 10, 35, 50)))
    assert ids(pipe.process(Frame(street[0], 2))) == [first]
    second = pipe.add_prompt(Prompt(mask=box(45, 10, 75, 50)))

    def fail(*_: object) -> None:
        assert second in pipe.stream.objects
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(classify, "classify", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            pipe.process(Frame(street[0], 3))
    assert ids(pipe.process(Frame(street[0], 4))) == [second]


def test_what_another_covers_altogether_says_nothing_of_its_class(
    street: npt.NDArray[np.uint8],
) -> None:
    """Two users click on one thing at once: each pixel is one object's, and so is the evidence."""
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 1))
    for _ in range(2):
        pipe.add_prompt(Prompt(mask=box(5, 10, 35, 50)))
    result = pipe.process(Frame(street[0], 2))
    assert sorted(o.area > 0 for o in result.objects) == [False, True]
    assert_consistent(result, street[0], pipe)
    (covered,) = (o for o in result.objects if not o.area)
    assert np.ptp(covered.class_probabilities) == 0, "nothing is known of it"


@pytest.mark.parametrize("discovery", ["off", "regions"])
def test_prompts_and_removals_from_other_threads(
    discovery: str, street: npt.NDArray[np.uint8]
) -> None:
    """Two users click while frames go through: nothing breaks, and nothing accepted is lost.

    (Where discovery is on, it may drop one of two prompts for the same thing.)
    """
    pipe = pipeline(
        max_objects=3, keyframe_interval=2, lost_after=1, forget_after=2, discovery=discovery
    )
    pipe.process(Frame(street[0], 1))
    done = threading.Event()
    accepted: list[int] = []
    removed: set[int] = set()
    errors: list[BaseException] = []

    def click(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not done.wait(0.002):
                x, y = (int(v) for v in rng.integers(0, 60, 2))
                try:
                    track_id = pipe.add_prompt(Prompt(mask=box(x, y, x + 30, y + 30)))
                except ValueError as full:
                    assert "max_objects" in str(full)
                    continue
                accepted.append(track_id)
                if rng.random() < 0.5 and pipe.remove_object(track_id):
                    removed.add(track_id)
        except BaseException as error:
            errors.append(error)

    users = [threading.Thread(target=click, args=(seed,)) for seed in range(2)]
    for user in users:
        user.start()
    seen: set[int] = set()
    try:
        for t, image in enumerate(np.concatenate([street, street[:6]])):
            result = pipe.process(Frame(image, t + 2))
            assert_consistent(result, image, pipe)
            seen |= set(ids(result))
            if result.objects:
                pipe.remove_object(ids(result)[0])
    finally:
        done.set()
        for user in users:
            user.join()
    seen |= set(ids(pipe.process(Frame(street[0], 100))))
    assert not errors
    assert len(accepted) > 5 and len(set(accepted)) == len(accepted)
    if discovery == "off":
        assert set(accepted) - removed <= seen, "every accepted prompt became an object"


def test_a_prompt_may_name_its_id_and_say_anew_what_has_it() -> None:
    pipe = pipeline(discovery="off")
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pipe.reserve_ids(9)
    first, second = box(10, 10, 40, 40), box(60, 40, 100, 80)
    assert pipe.add_prompt(Prompt(mask=first, class_id=8), track_id=7) == 7  # before any image
    found = find(pipe.process(Frame(image, 1)), 7)
    assert found.box == pytest.approx((10, 10, 30, 30), abs=3)

    assert pipe.add_prompt(Prompt(mask=second), track_id=7) == 7
    again = pipe.process(Frame(image, 2))
    assert ids(again) == [7]
    moved = find(again, 7)
    assert moved.box == pytest.approx((60, 40, 40, 40), abs=3)
    assert (moved.class_name, moved.state) == ("Car", TrackState.CONFIRMED)
    shown = pipe.process(Frame(image, 3)).instance_image == 7  # followed from where it is now
    assert shown[second].mean() > 0.7 and not shown[first].any()
    assert pipe.add_prompt(Prompt(mask=first)) == 10


def test_what_is_shown_anew_takes_no_second_place() -> None:
    pipe = pipeline(discovery="off", max_objects=1)
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pipe.reserve_ids(3)
    for stamp in (1, 2, 3):
        pipe.add_prompt(Prompt(mask=box(10, 10, 40, 40)), track_id=3)
        assert ids(pipe.process(Frame(image, stamp))) == [3]
    with pytest.raises(ValueError, match="^max_objects: all 1 places"):
        pipe.add_prompt(Prompt(mask=box(60, 40, 100, 80)), track_id=2)


def test_a_prompt_of_the_next_frame_holds_after_a_scene_cut() -> None:
    pipe = pipeline(discovery="off")
    rng = np.random.default_rng(0)
    pipe.process(Frame(np.full((HEIGHT, WIDTH, 3), 30, np.uint8), 1))
    pipe.reserve_ids(5)
    mask = box(10, 10, 40, 40)
    pipe.add_prompt(Prompt(mask=mask), track_id=5)
    assert pipe.add_prompt(Prompt(mask=mask)) == 6  # of the last frame: it does not survive the cut
    answer = pipe.process(Frame(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), 2))
    assert answer.scene_cut and ids(answer) == [5]
