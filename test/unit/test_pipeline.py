"""The pipeline with the embedded model: frames in, semantic frames out, and the life of objects."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.catalog import catalog_data, load_catalog
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import (
    Frame,
    Prompt,
    SemanticFrame,
    TrackedObject,
    TrackState,
    instance_value,
)

HEIGHT, WIDTH = 96, 128
STAGES = ["encode", "track", "discover", "classify", "fuse"]
MODES = ("refine", "classify", "fused")


def pipeline(**options: object) -> VssPipeline:
    """Few objects, no search before its time, no network: quick and easy to follow."""
    defaults = {"device": "cpu", "network": "head", "max_objects": 4, "min_unexplained": 1.0}
    return open_pipeline(PipelineConfig.from_mapping(defaults | options))


@pytest.fixture(scope="module")
def street() -> npt.NDArray[np.uint8]:
    """(12, HEIGHT, WIDTH, 3), a procedural street."""
    return make_clip(11, 12, (HEIGHT, WIDTH), kind="street").frames


def run(pipe: VssPipeline, images: npt.NDArray[np.uint8], start: int = 1) -> list[SemanticFrame]:
    return [pipe.process(Frame(image, start + i)) for i, image in enumerate(images)]


def box(x0: int, y0: int, x1: int, y1: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def ids(result: SemanticFrame) -> list[int]:
    return [o.track_id for o in result.objects]


def find(result: SemanticFrame, track_id: int) -> TrackedObject:
    return next(o for o in result.objects if o.track_id == track_id)


def assert_consistent(result: SemanticFrame, image: np.ndarray, pipe: VssPipeline) -> None:
    """Everything that is true of every answer."""
    size = image.shape[:2]
    assert result.label_image.shape == size and result.label_image.dtype == pipe.label_dtype
    assert result.confidence_image.shape == size and result.confidence_image.dtype == np.uint8
    assert result.instance_image.shape == size and result.instance_image.dtype == np.uint16
    known = {*pipe.catalog.ids.tolist(), pipe.config.unlabelled_id}
    assert set(np.unique(result.label_image).tolist()) <= known
    assert result.coverage == pytest.approx((result.instance_image > 0).mean())
    assert list(result.timings_ms) == STAGES and min(result.timings_ms.values()) >= 0
    assert len(result.objects) <= pipe.config.max_objects
    assert len(set(ids(result))) == len(result.objects)
    shown = {instance_value(o.track_id) for o in result.objects if o.area}
    assert set(np.unique(result.instance_image[result.instance_image > 0]).tolist()) == shown
    names = {c.id: c.name for c in pipe.catalog.classes} | {pipe.config.unlabelled_id: ""}
    for o in result.objects:
        x, y, width, height = o.box
        assert o.mask.shape == (height, width) and o.mask.dtype == np.bool_
        whole = result.instance_image == instance_value(o.track_id)
        assert o.area == whole.sum() == o.mask.sum()
        assert np.array_equal(o.mask, whole[y : y + height, x : x + width])
        if o.area:
            rows, columns = whole.nonzero()
            assert o.centroid == pytest.approx((columns.mean(), rows.mean()), abs=1e-3)
            edges = (o.mask[0], o.mask[-1], o.mask[:, 0], o.mask[:, -1])
            assert all(edge.any() for edge in edges), "the box is tight"
        assert o.class_name == names[o.class_id]
        assert o.class_probabilities.shape == (len(pipe.catalog),)
        assert o.class_probabilities.dtype == np.float32
        assert o.class_probabilities.sum() == pytest.approx(1, abs=1e-4)
        assert o.class_score == pytest.approx(float(o.class_probabilities.max()))
        assert 0 <= o.predicted_iou <= 1 and 0 <= o.visibility <= 1
        assert o.state in TrackState and o.age >= 0
        assert o.frames_since_seen == 0 or not o.area


class Eyes:
    """The tracker's sight; while `shut`, no object is found on any frame."""

    def __init__(self, pipe: VssPipeline, patch: pytest.MonkeyPatch) -> None:
        self.shut = False
        step = pipe.stream.tracker.step

        def seen(features: functional.ImageFeatures, slots: list[int]) -> Tracked:
            tracked = step(features, slots)
            if tracked is None or not self.shut:
                return tracked
            return dataclasses.replace(
                tracked,
                masks=torch.full_like(tracked.masks, -1024.0),
                score=torch.full_like(tracked.score, -10.0),
            )

        patch.setattr(pipe.stream.tracker, "step", seen)


# -- what comes out


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_every_frame(mode: str, street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(mode=mode, keyframe_interval=2)
    results = run(pipe, street[:4], start=1_000_000_000_000)
    for i, (result, image) in enumerate(zip(results, street, strict=False)):
        assert result.stamp_ns == 1_000_000_000_000 + i
        assert_consistent(result, image, pipe)
    assert results[0].objects, "a first frame is full of regions"


@pytest.mark.parametrize("size", [(77, 101), (300, 421), (480, 64), (1, 1), (31, 2)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    pipe = pipeline()
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    for result in run(pipe, images):
        assert_consistent(result, images[0], pipe)


@pytest.mark.parametrize("value", [0, 127, 255])
def test_images_without_any_content(value: int) -> None:
    pipe = pipeline()
    images = np.full((2, HEIGHT, WIDTH, 3), value, np.uint8)
    for result in run(pipe, images):
        assert_consistent(result, images[0], pipe)


def test_grey_images_and_views_of_other_arrays(street: npt.NDArray[np.uint8]) -> None:
    """What conversions hand over: one channel thrice, a crop, BGR seen backwards, read-only."""
    grey = np.repeat(street[:1].mean(-1, keepdims=True).astype(np.uint8), 3, -1)[0]
    crop = street[1, 3:90, 5:100]
    backwards = street[2, :, :, ::-1]
    frozen = street[3].copy()
    frozen.setflags(write=False)
    for image in (grey, crop, backwards, frozen):
        pipe = pipeline(max_objects=2)
        assert_consistent(pipe.process(Frame(image, 1)), image, pipe)


def test_the_same_frames_give_the_same_answers(street: npt.NDArray[np.uint8]) -> None:
    first, second = (run(pipeline(keyframe_interval=3), street[:6]) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.label_image, b.label_image)
        assert np.array_equal(a.confidence_image, b.confidence_image)
        assert np.array_equal(a.instance_image, b.instance_image)
        assert [(o.track_id, o.state, o.box) for o in a.objects] == [
            (o.track_id, o.state, o.box) for o in b.objects
        ]


def test_what_was_handed_out_does_not_change_later(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    first = pipe.process(Frame(street[0], 1))
    kept = [first.label_image.copy(), first.instance_image.copy()]
    masks = [o.mask.copy() for o in first.objects]
    run(pipe, street[1:4], start=2)
    assert np.array_equal(first.label_image, kept[0])
    assert np.array_equal(first.instance_image, kept[1])
    for o, mask in zip(first.objects, masks, strict=True):
        assert np.array_equal(o.mask, mask)


def test_memory_stays_as_it_was_over_60_frames(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(max_objects=3, keyframe_interval=5)
    held = pipe.memory_bytes()
    assert held > 0
    for round_ in range(5):
        run(pipe, street, start=1 + 12 * round_)
        assert pipe.memory_bytes() == held
    bigger = pipeline(max_objects=6)
    assert bigger.memory_bytes() == 2 * held


@pytest.mark.parametrize("minimum", [0.5, 1.0])
def test_what_is_not_sure_is_unlabelled(minimum: float, street: npt.NDArray[np.uint8]) -> None:
    free = pipeline().process(Frame(street[0], 1))
    strict = pipeline(min_class_score=minimum, unlabelled_id=200).process(Frame(street[0], 1))
    assert np.array_equal(free.confidence_image, strict.confidence_image)
    confidence = free.confidence_image / 255
    assert (strict.label_image[confidence < minimum - 0.01] == 200).all()
    sure = confidence > minimum
    assert np.array_equal(strict.label_image[sure], free.label_image[sure])
    assert not (free.label_image == 255).any() and (strict.label_image == 200).any()
    for o in strict.objects:
        assert (o.class_id == 200 and o.class_name == "") == (o.class_score < minimum)


def test_another_input_size_than_that_of_the_semantics(street: npt.NDArray[np.uint8]) -> None:
    """The semantics then read features of their own, and no object pointers."""
    pipe = pipeline(image_size=128, max_objects=2)
    for result, image in zip(run(pipe, street[:2]), street, strict=False):
        assert_consistent(result, image, pipe)


def class_file(folder: Path, ids: list[int]) -> str:
    """CamVid's classes under other names and ids."""
    data = catalog_data(load_catalog("camvid"))
    data["ignore_id"] = None
    for c, id_ in zip(data["classes"], ids, strict=False):
        c |= {"id": id_, "name": f"new {c['name']}"}
    data["classes"] = data["classes"][: len(ids)]
    path = folder / "renamed.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_classes_can_be_renamed_and_their_ids_need_16_bits(
    tmp_path: Path, street: npt.NDArray[np.uint8]
) -> None:
    plain = pipeline().process(Frame(street[0], 1))
    pipe = pipeline(classes=class_file(tmp_path, list(range(1000, 1011))))
    result = pipe.process(Frame(street[0], 1))
    assert_consistent(result, street[0], pipe)
    assert result.label_image.dtype == np.uint16
    assert np.array_equal(result.label_image, plain.label_image.astype(int) + 1000)
    assert all(o.class_name.startswith("new ") for o in result.objects)


# -- what cannot be built


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"device": "cuda:99"}, ValueError, "device"),
        ({"image_size": 100}, ValueError, "image_size.*32"),
        ({"checkpoint": "/nowhere/nano.pt"}, ModelUnavailableError, "/nowhere/nano.pt"),
        ({"semantics": "/nowhere/s.safetensors"}, FileNotFoundError, "/nowhere/s.safetensors"),
        ({"classes": "no_such_classes"}, FileNotFoundError, "no_such_classes.*camvid"),
        ({"unlabelled_id": 8}, ValueError, "unlabelled_id: 8 is the id of class Car"),
    ],
)
def test_what_cannot_be_built_says_why(
    options: dict[str, object], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        pipeline(**options)


def test_a_class_file_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    path = class_file(tmp_path, [1, 2, 3])
    with pytest.raises(ValueError, match=r"classes: .*renamed.yaml has 3 classes.*11.*Sky"):
        pipeline(classes=path)


# -- the stream


def test_equal_stamps_are_refused_and_the_stream_goes_on(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = pipe.process(Frame(street[0], 5))
    with pytest.raises(ValueError, match="two frames with stamp 5"):
        pipe.process(Frame(street[1], 5))
    after = pipe.process(Frame(street[1], 6))
    assert set(ids(before)) & set(ids(after)) and max(o.age for o in after.objects) == 1


def assert_fresh(result: SemanticFrame, before: SemanticFrame) -> None:
    """A stream that starts again: a search at once, nobody known, no id used twice."""
    assert before.objects and result.objects and result.keyframe
    assert min(ids(result)) > max(ids(before))
    assert all(o.age == 0 and o.state == TrackState.TENTATIVE for o in result.objects)


def test_time_that_runs_backwards_starts_afresh(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = run(pipe, street[:2], start=100)[-1]
    again = pipe.process(Frame(street[2], 7))
    assert_fresh(again, before)
    assert set(ids(pipe.process(Frame(street[3], 8)))) <= set(ids(again))


def look_down(result: SemanticFrame) -> npt.NDArray[np.uint16]:
    """The instance image on a grid of 32 x 32."""
    height, width = result.instance_image.shape
    rows, columns = (np.arange(32) + 0.5)[:, None] / 32, (np.arange(32) + 0.5) / 32
    where = (rows * height).astype(int), (columns * width).astype(int)
    return result.instance_image[where]


def test_objects_are_kept_when_only_the_image_size_changes(
    street: npt.NDArray[np.uint8],
) -> None:
    """Also when the aspect changes: SAM 2 sees a square."""
    pipe = pipeline()
    before = run(pipe, street[:3])[-1]
    for stamp, size in ((4, (2 * WIDTH, 2 * HEIGHT)), (5, (90, 90)), (6, (WIDTH, HEIGHT))):
        image = cv2.resize(street[2], size, interpolation=cv2.INTER_AREA)
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


SECOND = 1_000_000_000


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


def test_close_gives_the_memory_back(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    pipe.process(Frame(street[0], 1))
    network, bank = weakref.ref(pipe.stream.tracker.network), weakref.ref(pipe.stream.tracker.bank)
    pipe.close()
    gc.collect()
    assert network() is None and bank() is None


# -- discovery


def test_a_search_every_so_many_frames(street: npt.NDArray[np.uint8]) -> None:
    results = run(pipeline(keyframe_interval=3, max_objects=2), street[:7])
    assert [r.keyframe for r in results] == [True, False, False, True, False, False, True]


def test_a_search_before_its_time_where_much_is_unexplained(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for least, early in ((0.02, True), (1.0, False)):
        pipe = pipeline(keyframe_interval=1000, min_unexplained=least)
        eyes = Eyes(pipe, monkeypatch)
        first = pipe.process(Frame(street[0], 1))
        assert first.coverage > 0.02, "the test needs something that can get lost"
        eyes.shut = True
        assert pipe.process(Frame(street[0], 2)).keyframe is early


def test_new_is_measured_against_the_least_that_was_unexplained(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What discovery left over is not new, and what was explained since then is not old."""
    pipe = pipeline(max_objects=32, keyframe_interval=1000, min_unexplained=0.2)
    pipe.process(Frame(street[0], 1))
    searches = []
    for t, explained in enumerate((0.4, 0.3, 0.7, 0.6, 0.45, 0.45), start=2):
        with monkeypatch.context() as patch:
            patch.setattr(pipe, "_coverage", lambda tracked, share=explained: share)
            searches.append(pipe.process(Frame(street[0], t)).keyframe)
        if t == 2:
            pipe._left_unexplained = 0.6
    assert searches[1:] == [False, False, False, True, False]


def test_no_search_before_its_time_where_nobody_can_be_added_or_recognised(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=2, keyframe_interval=3, min_unexplained=0.01)
    eyes = Eyes(pipe, monkeypatch)
    pipe.process(Frame(street[0], 1))
    monkeypatch.setattr(pipe, "_coverage", lambda tracked: 0.0)
    pipe._left_unexplained = 0.5
    assert not pipe.process(Frame(street[0], 2)).keyframe, "both places are taken"
    eyes.shut = True
    pipe._left_unexplained = 0.5
    assert pipe.process(Frame(street[0], 3)).keyframe, "somebody may be found again"


def test_a_long_stream_that_was_never_reset(street: npt.NDArray[np.uint8]) -> None:
    """Counters as after years at 30 frames a second: nothing overflows or loses precision."""
    pipe = pipeline(keyframe_interval=4, memory_interval=2)
    now = 5_000_000_000_000_000_000
    first = run(pipe, street[:2], start=now)[-1]
    late = 1 << 40
    pipe._frames += late
    pipe._last_keyframe += late
    pipe.stream.objects._last_id += late
    for track in pipe.stream.objects.all():
        track.age += late
        track.seen += late
    results = run(pipe, street[2:10], start=now + 2)
    assert [r.keyframe for r in results] == [False, False, True, False, False, False, True, False]
    assert set(ids(first)) <= set(ids(results[0]))
    for result, image in zip(results, street[2:], strict=False):
        assert_consistent(result, image, pipe)
        assert not result.time_jump
    assert find(results[0], min(ids(first))).age > late


def test_no_objects_but_those_asked_for_where_discovery_is_off(
    street: npt.NDArray[np.uint8],
) -> None:
    pipe = pipeline(discovery="off", keyframe_interval=1)
    for result, image in zip(run(pipe, street[:3]), street, strict=False):
        assert not result.objects and not result.keyframe and result.coverage == 0
        assert_consistent(result, image, pipe)


def test_the_grid_finds_what_passes_its_thresholds(street: npt.NDArray[np.uint8]) -> None:
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    pipe = pipeline(discovery="grid", points_per_side=4, keyframe_interval=1, min_area=0.0)
    pipe.reconfigure(pred_iou_thresh=1.0)
    assert not pipe.process(Frame(street[0], 1)).objects
    pipe.reconfigure(**loose, stability_score_offset=0.0)
    result = pipe.process(Frame(street[1], 2))
    assert result.objects, "the source must have heard of the change"
    assert_consistent(result, street[1], pipe)


def test_the_memory_holds_no_more_than_asked(street: npt.NDArray[np.uint8]) -> None:
    for most in (1, 3):
        pipe = pipeline(max_objects=most, keyframe_interval=1, min_area=0.0)
        assert [len(r.objects) for r in run(pipe, street[:4])] == [most] * 4


# -- the life of objects


def test_ids_are_never_used_twice(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects vanish and others are found, again and again; the life of an id has no gap."""
    pipe = pipeline(keyframe_interval=2, lost_after=1, forget_after=1, revive_similarity=1.0)
    eyes = Eyes(pipe, monkeypatch)
    seen: list[set[int]] = []
    for t, image in enumerate(np.concatenate([street, street[::-1]])):
        eyes.shut = t % 8 >= 4
        seen.append(set(ids(pipe.process(Frame(image, t + 1)))))
    everybody = set().union(*seen)
    assert len(everybody) > 8
    for track_id in everybody:
        frames = [t for t, present in enumerate(seen) if track_id in present]
        assert frames == list(range(frames[0], frames[-1] + 1))
    assert everybody == set(range(1, len(everybody) + 1))


def test_an_object_is_confirmed_occluded_lost_and_forgotten(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(discovery="off", confirm_frames=1, lost_after=2, forget_after=3)
    eyes = Eyes(pipe, monkeypatch)
    still = street[0]
    pipe.process(Frame(still, 1))
    track_id = pipe.add_prompt(Prompt(mask=box(30, 20, 80, 70)))
    results = run(pipe, np.stack([still] * 2), start=2)
    eyes.shut = True
    results += run(pipe, np.stack([still] * 7), start=4)
    states = [o.state for r in results for o in r.objects if o.track_id == track_id]
    C, O, L = TrackState.CONFIRMED, TrackState.OCCLUDED, TrackState.LOST  # noqa: E741, N806
    assert states == [C, C, O, O, L, L, L]
    hidden = [find(r, track_id) for r in results[2:7]]
    assert [o.frames_since_seen for o in hidden] == [1, 2, 3, 4, 5]
    for o in hidden:
        assert o.box == (0, 0, 0, 0) and o.mask.shape == (0, 0) and o.area == 0
        assert o.visibility < 0.01 or o.state == L
    assert results[-1].objects == ()
    assert all(r.coverage == 0 for r in results[2:])


def test_what_no_longer_looks_like_the_object_is_not_it(
    street: npt.NDArray[np.uint8],
) -> None:
    """The tracker goes on to see something in its place; the memory is not taught that."""
    pipe = pipeline(discovery="off", confirm_frames=1, lost_after=2, engine="exact")
    pipe.process(Frame(street[0], 1))
    kept = pipe.add_prompt(Prompt(mask=box(0, 66, 128, 96)))
    changed = pipe.add_prompt(Prompt(mask=box(20, 0, 80, 40)))
    before = run(pipe, np.stack([street[0]] * 3), start=2)[-1]
    assert find(before, kept).area and find(before, changed).area
    image = street[0].copy()
    image[:40, 20:80] = (30, 160, 30)
    bank = pipe.stream.tracker.bank
    (slot,) = [t.slot for t in pipe.stream.objects.all() if t.track_id == changed]
    remembered = bank.recall([slot])[0].memories
    results = run(pipe, np.stack([image] * 3), start=5)
    assert not results[0].scene_cut and not results[0].time_jump
    states = [find(r, changed).state for r in results]
    assert states == [TrackState.OCCLUDED, TrackState.OCCLUDED, TrackState.LOST]
    assert torch.equal(bank.recall([slot])[0].memories, remembered)
    assert find(results[-1], kept).area


def test_a_lost_object_comes_back_with_its_id(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=1, keyframe_interval=6, lost_after=2, confirm_frames=1)
    eyes = Eyes(pipe, monkeypatch)
    still = street[0]
    first = pipe.process(Frame(still, 1))
    (track_id,) = ids(first)
    eyes.shut = True
    gone = run(pipe, np.stack([still] * 5), start=2)[-1]
    assert find(gone, track_id).state == TrackState.LOST
    eyes.shut = False
    back = pipe.process(Frame(still, 7))  # the next keyframe
    assert back.keyframe and ids(back) == [track_id]
    returned = find(back, track_id)
    assert returned.state == TrackState.CONFIRMED and returned.frames_since_seen == 0
    assert returned.box == find(first, track_id).box and returned.age == 6


def test_something_else_in_its_place_is_another_object(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline(max_objects=1, keyframe_interval=6, lost_after=2, revive_similarity=0.999)
    eyes = Eyes(pipe, monkeypatch)
    (track_id,) = ids(pipe.process(Frame(street[0], 1)))
    eyes.shut = True
    run(pipe, np.stack([street[0]] * 5), start=2)
    eyes.shut = False
    negative = 255 - street[0][::-1, ::-1]
    other = pipe.process(Frame(negative, 7))
    assert other.keyframe and ids(other) == [track_id + 1], "the lost one gave its place"


# -- prompts


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


def test_prompts_of_another_scene_go_with_it(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(discovery="off")
    prompt = Prompt(mask=box(30, 20, 80, 70))
    pipe.process(Frame(street[0], 100))
    pipe.add_prompt(prompt)
    pipe.reset()
    assert pipe.process(Frame(street[1], 101)).objects == ()
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
    for t, image in enumerate(np.concatenate([street, street[:6]])):
        result = pipe.process(Frame(image, t + 2))
        assert_consistent(result, image, pipe)
        seen |= set(ids(result))
        if result.objects:
            pipe.remove_object(ids(result)[0])
    done.set()
    for user in users:
        user.join()
    seen |= set(ids(pipe.process(Frame(street[0], 100))))
    assert not errors
    assert len(accepted) > 5 and len(set(accepted)) == len(accepted)
    if discovery == "off":
        assert set(accepted) - removed <= seen, "every accepted prompt became an object"


# -- options that change while it runs


def test_live_options_take_effect(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(mode="fused")
    pipe.process(Frame(street[0], 1))
    pipe.reconfigure(mode="classify", min_class_score=1.0, keyframe_interval=1)
    assert (pipe.config.mode, pipe.config.keyframe_interval) == ("classify", 1)
    result = pipe.process(Frame(street[1], 2))
    assert result.keyframe and (result.label_image == 255).any()


def test_options_that_cannot_change_are_named(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = pipe.config
    for changes, error, named in (
        ({"model": "nano"}, ValueError, "model: cannot change while running.*mode"),
        ({"max_objects": 3}, ValueError, "max_objects: cannot"),
        ({"no_such": 3}, ValueError, "no_such: cannot"),
        ({"mode": "best"}, ValueError, "mode: 'best' is not one of refine, classify, fused"),
        ({"keyframe_interval": 0}, ValueError, "keyframe_interval: 0 is outside"),
        ({"min_area": "big"}, TypeError, "min_area"),
        ({"mode": "refine", "lost_after": 0}, ValueError, "lost_after"),
    ):
        with pytest.raises(error, match=named):
            pipe.reconfigure(**changes)
        assert pipe.config == before
    assert pipe.process(Frame(street[0], 1)).objects


# -- imports


def test_the_core_needs_neither_torchvision_nor_ros() -> None:
    code = """
import sys
import numpy as np
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame
import sam2vss_ros.training.nano, sam2vss_ros.training.semantics, sam2vss_ros.cli
config = PipelineConfig(device="cpu", max_objects=1, discovery="grid")
pipe = VssPipeline(Perception.load(config), config)
pipe.process(Frame(np.zeros((32, 32, 3), np.uint8), 1))
print(sorted({m.split(".")[0] for m in sys.modules} & {"torchvision", "rclpy", "cv_bridge"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
