"""Where a stream does not simply go on: jumps in time, other image sizes, other scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from sam2vss_ros.errors import MissingLabelsError
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt, SemanticFrame, TrackState
from streams import (
    HEIGHT,
    WIDTH,
    assert_consistent,
    assert_same,
    box,
    find,
    ids,
    look_down,
    pipeline,
    run,
)

SECOND, MS = 1_000_000_000, 1_000_000  # in ns


def test_equal_stamps_are_refused_and_the_stream_goes_on(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = pipe.process(Frame(street[0], 5))
    with pytest.raises(ValueError, match="two frames with stamp 5"):
        pipe.process(Frame(street[1], 5))
    after = pipe.process(Frame(street[1], 6))
    assert set(ids(before)) & set(ids(after)) and max(o.age for o in after.objects) == 1


def test_a_frame_without_its_labels_leaves_the_stream_as_it_was(
    tmp_path: Path, street: npt.NDArray[np.uint8]
) -> None:
    """The same frame is taken once its labels are there, and what was asked for still waits."""
    path = tmp_path / "mine.yaml"
    classes = [{"id": i, "name": name, "color": [0, 0, i]} for i, name in enumerate(("a", "b"))]
    path.write_text(yaml.safe_dump({"name": "mine", "classes": classes}))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[40:] = 1
    options = {"network": "topic", "network_classes": str(path), "mode": "refine"}
    pipe, usual = (pipeline(keyframe_interval=2, **options) for _ in range(2))
    for each in (pipe, usual):
        before = each.process(Frame(street[0], 1, labels))
        assert each.remove_object(ids(before)[0])
        asked = each.add_prompt(Prompt(mask=box(30, 20, 80, 70), class_id=1))
        each.reconfigure(min_area=0.5)
    for stamp in (2, 3, 2, 0):  # no stamp is used up, not even one that goes back
        with pytest.raises(MissingLabelsError, match=f"the frame taken at {stamp} ns"):
            pipe.process(Frame(street[1][::2, ::2], stamp))
    assert pipe.stream.frames == 1
    result, expected = (each.process(Frame(street[1], 2, labels)) for each in (pipe, usual))
    assert_same(result, expected)
    assert asked in ids(result) and ids(before)[0] not in ids(result)
    for each in (pipe, usual):
        with pytest.raises(ValueError, match="two frames with stamp 2"):
            each.process(Frame(street[1], 2, labels))
    assert_same(*(each.process(Frame(street[2], 3, labels)) for each in (pipe, usual)))


def assert_fresh(result: SemanticFrame, before: SemanticFrame) -> None:
    """A stream that starts again: a search at once, nobody known, no id used twice."""
    assert before.objects and result.objects and result.keyframe
    assert min(ids(result)) > max(ids(before))
    assert all(o.age == 0 and o.state == TrackState.TENTATIVE for o in result.objects)


def test_time_that_runs_backwards_starts_afresh(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = run(pipe, street[:2], start=100 * SECOND)[-1]
    again = pipe.process(Frame(street[2], 7))
    assert_fresh(again, before)
    assert again.began_anew and not again.out_of_order
    after = pipe.process(Frame(street[3], 8))
    assert set(ids(after)) <= set(ids(again)) and not after.began_anew


def test_a_frame_out_of_order_is_not_looked_at(street: npt.NDArray[np.uint8]) -> None:
    """The stream goes on as if it had not come; what was asked for still waits."""
    pipe, usual = (pipeline(keyframe_interval=2) for _ in range(2))
    for i, stamp in enumerate((100, 110, 120, 130)):
        frame = Frame(street[i], stamp * MS)
        result, expected = pipe.process(frame), usual.process(frame)
        assert_same(result, expected)
        if i == 1:
            for each in (pipe, usual):
                each.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
        for late in (stamp - 1, stamp - 40, stamp - 30):
            again = pipe.process(Frame(street[9], late * MS))
            assert again.out_of_order and not again.began_anew
            assert_same(dataclasses.replace(again, out_of_order=False), result)
    assert pipe.stream.frames == 4


def test_one_stamp_that_is_far_off_begins_no_new_stream(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 90 * MS))
    asked = pipe.add_prompt(Prompt(mask=box(0, 66, 128, 96)))
    stamps = (100, 110, 9_000_000, 120, 130)
    results = [pipe.process(Frame(street[0], stamp * MS)) for stamp in stamps]
    assert [r.time_jump for r in results] == [False, False, True, False, False]
    assert not any(r.began_anew or r.out_of_order for r in results)
    assert [ids(r) for r in results] == [[asked]] * 5


def test_max_step_back_is_where_a_new_stream_begins(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(max_step_back=0.05)
    before = run(pipe, street[:2], start=SECOND)[-1]
    last = SECOND + 1
    assert pipe.process(Frame(street[2], last - SECOND // 20)).out_of_order
    again = pipe.process(Frame(street[2], last - SECOND // 20 - 1))
    assert again.began_anew and not again.out_of_order
    assert_fresh(again, before)


def test_after_a_reset_any_stamp_will_do(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = run(pipe, street[:2], start=SECOND)[-1]
    for stamp in (SECOND // 2, SECOND // 2):
        pipe.reset()
        again = pipe.process(Frame(street[2], stamp))
        assert_fresh(again, before)
        assert not again.began_anew and not again.out_of_order


def test_objects_are_kept_when_only_the_image_size_changes() -> None:
    """Also when the aspect changes: SAM 2 sees a square."""
    street = make_clip(17, 9, (HEIGHT, WIDTH), kind="street").frames
    pipe = pipeline()
    before = run(pipe, street[6:9])[-1]  # four cars
    for stamp, size in ((4, (2 * WIDTH, 2 * HEIGHT)), (5, (90, 90)), (6, (WIDTH, HEIGHT))):
        image = cv2.resize(street[8], size, interpolation=cv2.INTER_AREA)
        result = pipe.process(Frame(image, stamp))
        assert_consistent(result, image, pipe)
        assert len(set(ids(before)) - set(ids(result))) <= 1 and result.keyframe
        assert not result.scene_cut and not result.time_jump
        same = look_down(result) == look_down(before)
        assert same.mean() > 0.8


def test_another_picture_of_another_size_is_another_scene(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = run(pipe, street[:3])[-1]
    other = make_clip(5, 1, (60, 100), kind="abstract").frames[0]
    result = pipe.process(Frame(other, 4))
    assert result.scene_cut
    assert_consistent(result, other, pipe)
    assert not set(ids(before)) & {o.track_id for o in result.objects if o.area}


def test_a_scene_cut_loses_all_objects_and_searches_at_once(
    street: npt.NDArray[np.uint8],
) -> None:
    """They are remembered, and come back with the scene."""
    pipe = pipeline(max_objects=32, keyframe_interval=1000, confirm_frames=1)
    before = run(pipe, street[:3])[-1]
    known = {o.track_id for o in before.objects if o.area}
    cut, after = run(pipe, make_clip(5, 2, (HEIGHT, WIDTH), kind="abstract").frames, start=10)
    assert cut.scene_cut and cut.keyframe
    assert not after.scene_cut and not after.keyframe
    assert all(find(cut, i).state == TrackState.LOST and not find(cut, i).area for i in known)
    assert find(cut, min(known)).frames_since_seen == 1
    back = pipe.process(Frame(street[2], 20))
    assert back.scene_cut and back.keyframe
    returned = {o.track_id for o in back.objects if o.area} & known
    there = []
    for track_id in returned:
        x, y, width, height = find(before, track_id).box
        x2, y2, width2, height2 = find(back, track_id).box
        off = abs(x - x2) + abs(y - y2) + abs(width - width2) + abs(height - height2)
        there.append(off < WIDTH / 2)
    assert any(there), "somebody is recognised at its place"


def test_a_change_of_light_is_no_scene_cut(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(max_objects=2)
    before = pipe.process(Frame(street[0], 1))
    darker = pipe.process(Frame((street[0] * 0.5).astype(np.uint8), 2))
    assert not darker.scene_cut and set(ids(before)) == set(ids(darker))


def test_prompts_do_not_outlive_a_scene_cut(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(discovery="off")
    pipe.process(Frame(street[0], 1))
    pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
    other = make_clip(5, 1, (HEIGHT, WIDTH), kind="abstract").frames[0]
    result = pipe.process(Frame(other, 2))
    assert result.scene_cut and result.objects == ()


def test_after_a_jump_in_time_only_those_are_kept_that_look_like_themselves(
    street: npt.NDArray[np.uint8],
) -> None:
    pipe = pipeline(discovery="off", confirm_frames=1)
    pipe.process(Frame(street[0], SECOND // 10))
    kept = pipe.add_prompt(Prompt(mask=box(0, 66, 128, 96)))
    changed = pipe.add_prompt(Prompt(mask=box(20, 0, 80, 40)))
    still = [pipe.process(Frame(street[0], t * SECOND // 10)) for t in (2, 3, 4)][-1]
    assert find(still, kept).area and find(still, changed).area
    image = street[0].copy()
    image[:40, 20:80] = 255 - image[:40, 20:80]
    now = pipe.process(Frame(image, 5 * SECOND))
    assert now.time_jump and not now.scene_cut
    assert find(now, kept).state == TrackState.CONFIRMED and find(now, kept).area
    assert find(now, changed).state == TrackState.LOST and not find(now, changed).area
    assert not pipe.process(Frame(image, 51 * SECOND // 10)).time_jump


def test_reset_starts_afresh(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = run(pipe, street[:2])[-1]
    pipe.reset()
    assert_fresh(pipe.process(Frame(street[2], 3)), before)
    assert not pipe.process(Frame(street[3], 4)).keyframe
