"""The pipeline with the model mobile: things found, followed, forgotten."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipelines import open_pipeline
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt, SemanticFrame, TrackState

Images = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 96, 128


def pipeline(**options: object) -> VssPipeline:
    usual = {"model": "mobile", "device": "cpu", "image_size": 192}
    return open_pipeline(PipelineConfig.from_mapping(usual | {"max_objects": 4} | options))


@pytest.fixture(scope="module")
def street() -> Images:
    return make_clip(11, 12, (HEIGHT, WIDTH), kind="street").frames


def run(pipe: VssPipeline, images: Images, start: int = 1) -> list[SemanticFrame]:
    return [pipe.process(Frame(image, start + i)) for i, image in enumerate(images)]


def prompt(x0: int, y0: int, x1: int, y1: int) -> Prompt:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return Prompt(mask=mask)


def test_only_what_can_be_counted_is_an_object() -> None:
    """What moves by itself is one, too, unless only things are asked for."""
    images = make_clip(11, 2, (240, 320), kind="street").frames

    def found(discovery: str) -> set[str]:
        pipe = pipeline(image_size=320, max_objects=16, min_area=0.001, discovery=discovery)
        return {o.class_name for r in run(pipe, images) for o in r.objects}

    things = {c.name for c in pipeline().catalog.classes if c.thing}
    assert "Car" in found("things") and found("things") <= things
    assert not found("regions") <= things | {""}
    assert pipeline().config.discovery == "objects"


def test_an_object_is_followed_with_memory_that_does_not_grow(street: Images) -> None:
    pipe = pipeline(discovery="off")
    run(pipe, street[:1])
    held = pipe.memory_bytes()
    track_id = pipe.add_prompt(prompt(60, 50, 100, 90))
    results = []
    for i, image in enumerate(street[1:], 2):
        results += run(pipe, image[None], start=i)
        assert pipe.memory_bytes() == held
    assert all(o.track_id == track_id for r in results for o in r.objects)
    assert results[-1].objects[0].state == TrackState.CONFIRMED and results[-1].objects[0].area
    assert pipe.memory_bytes() == held > 0
    pipe.release()
    assert pipe.memory_bytes() == 0
    assert not run(pipe, street[:1], start=100)[0].objects
    assert pipe.memory_bytes() == held


def test_nobody_rests_though_time_is_short(street: Images) -> None:
    """One comparison serves all objects; who is not asked for would be forgotten."""
    pipe = pipeline(discovery="off", target_fps=1000.0)
    run(pipe, street[:1])
    ids = [pipe.add_prompt(prompt(x, 50, x + 36, 90)) for x in (4, 84)]
    still = np.stack([street[1]] * 40)
    results = run(pipe, still, start=2)
    assert results[-1].late
    assert [o.track_id for o in results[-1].objects] == ids
    assert all(o.area for o in results[-1].objects)


def test_a_scene_that_comes_back_has_its_objects(street: Images) -> None:
    pipe = pipeline(discovery="regions", max_objects=32, confirm_frames=1)
    known = {o.track_id for o in run(pipe, street[:3])[-1].objects if o.area}
    other = make_clip(5, 3, (HEIGHT, WIDTH), kind="abstract").frames
    cut = run(pipe, other, start=10)
    assert cut[0].scene_cut and not known & {o.track_id for o in cut[0].objects if o.area}
    back = run(pipe, street[2:4], start=20)
    assert known & {o.track_id for o in back[-1].objects if o.area}


def test_streams_on_one_model_do_not_mix(street: Images) -> None:
    one, other, alone = (pipeline(discovery="regions") for _ in range(3))
    mixed = []
    for i, image in enumerate(street[:5], 1):
        mixed.append(one.process(Frame(image, i)))
        other.process(Frame(street[-i], i))
    for a, b in zip(mixed, run(alone, street[:5]), strict=True):
        assert np.array_equal(a.instance_image, b.instance_image)
        assert np.array_equal(a.label_image, b.label_image)


def test_cameras_of_two_aspects_on_one_perception(street: Images) -> None:
    """Encoded together, they are answered as each is alone; two of one aspect share a batch."""
    wide, tall, again, alone, alone_tall = (pipeline(discovery="regions") for _ in range(5))
    portrait = np.ascontiguousarray(street[:, :, 20:84])
    perception = wide.perception
    for t, (image, narrow) in enumerate(zip(street[:4], portrait, strict=False), 1):
        images = [image, narrow, np.ascontiguousarray(image[:, ::-1])]
        with perception.arithmetic():
            encoded = perception.encode_images(images)
        assert [e.pyramid[0].shape[-2:] for e in encoded] == [(32, 48), (48, 32), (32, 48)]
        pipes = (wide, tall, again)
        answers = []
        for pipe, picture, features in zip(pipes, images, encoded, strict=True):
            looked = partial(pipe.look, Frame(picture, t), features)
            answers.append(pipe.process(Frame(picture, t), looked))
        for pipe, picture, answer in ((alone, image, answers[0]), (alone_tall, narrow, answers[1])):
            expected = pipe.process(Frame(picture, t))
            assert answer.label_image.shape == picture.shape[:2]
            assert np.array_equal(answer.label_image, expected.label_image)
            same = answer.instance_image == expected.instance_image
            assert same.mean() > 0.99 and answer.instance_image.any()


def test_objects_at_another_aspect(street: Images) -> None:
    """They are forgotten by the tracker and known again by their looks; the same aspect in other
    pixels changes nothing."""
    pipe = pipeline(discovery="regions", max_objects=32, confirm_frames=1)
    before = {o.track_id for o in run(pipe, street[:3])[-1].objects if o.area}
    larger = np.stack([cv2.resize(street[2], (2 * WIDTH, 2 * HEIGHT))])
    assert before <= {o.track_id for o in run(pipe, larger, start=10)[0].objects if o.area}
    cropped = run(pipe, np.ascontiguousarray(street[2:3, 16:]), start=20)[0]
    assert cropped.keyframe and not cropped.scene_cut
    known = {o.track_id for o in cropped.objects if o.area}
    assert len(known & before) >= len(before) // 2
    after = run(pipe, np.ascontiguousarray(street[3:4, 16:]), start=30)[0]
    assert known & {o.track_id for o in after.objects if o.area}


def test_a_scene_cut_to_another_aspect(street: Images) -> None:
    pipe = pipeline(discovery="regions", confirm_frames=1)
    before = {o.track_id for o in run(pipe, street[:2])[-1].objects if o.area}
    other = make_clip(5, 2, (100, 60), kind="abstract").frames
    cut, after = run(pipe, other, start=10)
    assert cut.scene_cut and cut.label_image.shape == (100, 60)
    assert not before & {o.track_id for o in (*cut.objects, *after.objects) if o.area}


def test_a_point_and_a_box_mean_the_region_they_lie_on(street: Images) -> None:
    pipe = pipeline(discovery="off")
    run(pipe, street[:1])
    point = Prompt(points=np.array([[70, 80]], np.float32), point_labels=np.ones(1, np.int32))
    ids = {pipe.add_prompt(point), pipe.add_prompt(Prompt(box=(40, 20, 70, 60)))}
    result = run(pipe, street[1:2], start=2)[0]
    assert {o.track_id for o in result.objects} == ids
    assert all(o.area for o in result.objects)


NOT_MINE = """
import sys
import numpy as np
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.types import Frame, Prompt

config = PipelineConfig(model="mobile", device="cpu", image_size=192)
pipe = VssPipeline(Perception.load(config), config)
image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
pipe.process(Frame(image, 1))
pipe.add_prompt(Prompt(box=(20, 20, 70, 70)))
assert pipe.process(Frame(image, 2)).objects
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_libraries_of_other_models_stay_unloaded() -> None:
    """Each would take memory and time at the start of every process."""
    done = subprocess.run([sys.executable, "-c", NOT_MINE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    others = {"sam2", "hydra", "omegaconf", "transformers", "onnxruntime", "scipy", "matplotlib"}
    loaded = set(done.stdout.split())
    assert "torch" in loaded and not loaded & {*others, "PIL", "rosbags", "pandas", "torchvision"}
