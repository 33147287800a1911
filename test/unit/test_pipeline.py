"""The pipeline with embedded models: frames in, semantic frames out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipelines import open_pipeline
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.discovery import RegionSource
from sam2vss_ros.semantics.catalog import catalog_data, load_catalog
from sam2vss_ros.semantics.familiarity import Familiarity
from sam2vss_ros.types import Frame, Prompt
from small_sam2 import BOTH_MODELS, SMALL_SAM2
from streams import (
    HEIGHT,
    WIDTH,
    assert_consistent,
    assert_same,
    box,
    find,
    pipeline,
    run,
    small_config,
)

MODES = ("refine", "classify", "fused")


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


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_memory_stays_as_it_was_over_60_frames(model: str, street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(model=model, max_objects=3, keyframe_interval=5)
    run(pipe, street[:1], start=0)
    held = pipe.memory_bytes()
    assert held > 0
    for round_ in range(5):
        run(pipe, street, start=1 + 12 * round_)
        assert pipe.memory_bytes() == held
    bigger = pipeline(model=model, max_objects=6)
    run(bigger, street[:1])
    if model == SMALL_SAM2:
        assert bigger.memory_bytes() == 2 * held
    else:
        assert held < bigger.memory_bytes() < 2 * held, "the keys are of all objects"


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


def test_what_is_found_as_a_thing_is_of_no_class_of_stuff(
    street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what users pointed at. Where regions of stuff are asked for, they are named."""
    monkeypatch.setattr(Familiarity, "belief", lambda *_: 1.0)
    config = small_config(discovery="objects", max_objects=8)
    things = load_catalog("camvid").things
    every_region = RegionSource(things, stuff=True)
    unnamed = open_pipeline(config, source=every_region).process(Frame(street[0], 1)).objects
    named = run(pipeline(max_objects=8), street[:1])[0].objects
    countable = [things[o.class_probabilities.argmax()] for o in named]
    assert set(countable) == {False, True}
    names = [o.class_name if thing else "" for o, thing in zip(named, countable, strict=True)]
    assert [o.class_name for o in unnamed] == names
    for o in unnamed:
        of_things = float(o.class_probabilities[things].max())
        assert o.class_score == pytest.approx(of_things, abs=1e-6)

    pipe = open_pipeline(config)
    run(pipe, street[:1])
    asked = pipe.add_prompt(Prompt(mask=box(0, 0, WIDTH, HEIGHT)))
    wall = find(run(pipe, street[1:2], start=2)[0], asked)
    assert wall.class_name and not things[wall.class_probabilities.argmax()]


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_another_input_size_than_that_of_the_semantics(
    model: str, street: npt.NDArray[np.uint8]
) -> None:
    pipe = pipeline(model=model, image_size=128, max_objects=2)
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
        ({"checkpoint": "/nowhere/mine.pt"}, ModelUnavailableError, "/nowhere/mine.pt"),
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


# -- options that change while it runs


def test_live_options_take_effect(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline(mode="fused")
    pipe.process(Frame(street[0], 1))
    pipe.reconfigure(mode="classify", min_class_score=1.0, keyframe_interval=1)
    assert (pipe.config.mode, pipe.config.keyframe_interval) == ("classify", 1)
    result = pipe.process(Frame(street[1], 2))
    assert result.keyframe and (result.label_image == 255).any()


MOMENTS = ("run_head", "step", "propose", "classify_masks")


@pytest.mark.parametrize("moment", MOMENTS)
def test_options_that_change_during_a_frame_hold_from_the_next_on(
    moment: str, street: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame is half of one and half of the other, whenever during it the change comes."""
    options = {"mode": "refine", "min_class_score": 1.0, "keyframe_interval": 1, "min_area": 0.02}
    options |= {"confirm_frames": 5, "belief_memory": 0.0, "target_fps": 1.0}
    started: dict[str, object] = {"mode": "fused", "keyframe_interval": 2}
    usual, changing = pipeline(**started), pipeline(**started)
    results = run(usual, street[:3])
    usual.reconfigure(**options)
    results += run(usual, street[3:5], start=4)
    assert results[2].keyframe and results[2].objects

    for result, expected in zip(run(changing, street[:2]), results, strict=False):
        assert_same(result, expected)
    source, perception = changing.source, changing.perception
    owner = {"step": changing.stream.tracker, "propose": source}.get(moment, perception)
    act = getattr(owner, moment)

    def change_and_act(*arguments: object) -> object:
        changing.reconfigure(**options)
        return act(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, change_and_act)
        during = changing.process(Frame(street[2], 3))
    assert changing.config.mode == "refine", "the moment must have come"
    assert_same(during, results[2])
    assert not (during.label_image == 255).any() and all(o.class_name for o in during.objects)
    after = changing.process(Frame(street[3], 4))
    assert_same(after, results[3])
    assert after.keyframe and (after.label_image[after.confidence_image < 255] == 255).all()
    assert after.objects and not any(o.class_name for o in after.objects if o.class_score < 1)
    assert_same(changing.process(Frame(street[4], 5)), results[4])


def test_options_that_cannot_change_are_named(street: npt.NDArray[np.uint8]) -> None:
    pipe = pipeline()
    before = pipe.config
    for changes, error, named in (
        ({"model": SMALL_SAM2}, ValueError, "model: cannot change while running.*mode"),
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
import sam2vss_ros.training.semantics, sam2vss_ros.cli
config = PipelineConfig(model=sys.argv[1], device="cpu", max_objects=1, discovery="grid")
pipe = VssPipeline(Perception.load(config), config)
pipe.process(Frame(np.zeros((32, 32, 3), np.uint8), 1))
print(sorted({m.split(".")[0] for m in sys.modules} & {"torchvision", "rclpy", "cv_bridge"}))
"""
    command = [sys.executable, "-c", code, SMALL_SAM2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
