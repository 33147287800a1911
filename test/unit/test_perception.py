"""The networks that cameras share: what they answer, and that no stream hears of another."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from pipelines import sam2_tracker, shared_perception
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.perception import NETWORK_OPTIONS, Perception
from sam2vss_ros.pipeline import VssPipeline
from sam2vss_ros.sam2.cards import model_card
from sam2vss_ros.sam2.functional import ImageFeatures
from sam2vss_ros.threads import processors
from sam2vss_ros.tracking import Features
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt, SemanticFrame
from small_sam2 import SMALL_SAM2
from streams import HEIGHT, WIDTH, assert_same, box, ids, pipeline, run, small_config

Images = npt.NDArray[np.uint8]
CONFIG = small_config(keyframe_interval=3)


@pytest.fixture(scope="module")
def other_street() -> Images:
    """(6, HEIGHT, WIDTH, 3), what a second camera sees."""
    return make_clip(23, 6, (HEIGHT, WIDTH), kind="street").frames


def two_cameras() -> tuple[VssPipeline, VssPipeline]:
    perception = shared_perception(CONFIG)
    return VssPipeline(perception, CONFIG), VssPipeline(perception, CONFIG)


# -- cameras that share the networks


def test_two_cameras_see_what_each_would_see_alone(street: Images, other_street: Images) -> None:
    """Also where they have other options than each other."""
    perception = Perception.load(CONFIG)
    options = (CONFIG, replace(CONFIG, mode="refine", keyframe_interval=2, min_class_score=0.4))
    together = [VssPipeline(perception, config) for config in options]
    answers: list[list[SemanticFrame]] = [[], []]
    for t, pair in enumerate(zip(street[:6], other_street, strict=True)):
        for pipe, image, found in zip(together, pair, answers, strict=True):
            found.append(pipe.process(Frame(image, t + 1)))
    for config, images, found in zip(options, (street[:6], other_street), answers, strict=True):
        alone = run(VssPipeline(Perception.load(config), config), images)
        assert min(ids(found[0])) == 1, "each counts for itself"
        for one, other in zip(found, alone, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize(("model", "networks"), [("mobile", 5), (SMALL_SAM2, 6)])
def test_a_camera_holds_its_own_memory_and_no_networks(
    model: str, networks: int, street: Images, other_street: Images
) -> None:
    config = replace(CONFIG, model=model)
    perception = Perception.load(config)
    weights = perception.memory_bytes()
    modules = {
        perception.model.network,
        perception._trunk.network,
        perception._semantics.head,
        perception._semantics.classifier,
        perception._semantics.world,
        perception._trunk.outline,
    }
    assert len(modules) == networks, "what follows objects by the trunk shares it"
    tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    assert weights == sum(t.nbytes for t in tensors)
    cameras = [VssPipeline(perception, config) for _ in range(3)]
    held = 0
    for t, images in enumerate(zip(street, other_street, street[6:], strict=False)):
        for camera, image in zip(cameras, images, strict=True):
            camera.process(Frame(image, t + 1))
            held = held or camera.memory_bytes()
            assert camera.memory_bytes() == held > 0
        assert perception.memory_bytes() == weights
    if model == SMALL_SAM2:
        assert {sam2_tracker(camera).network for camera in cameras} == {perception.model.network}


def test_a_prompt_to_one_camera_is_none_to_another(street: Images) -> None:
    one, other = two_cameras()
    before = [run(pipe, street[:2])[-1] for pipe in (one, other)]
    one.remove_object(ids(before[0])[0])
    asked = one.add_prompt(Prompt(mask=box(30, 20, 80, 70), class_id=8))
    with_prompt, without = (pipe.process(Frame(street[2], 3)) for pipe in (one, other))
    assert asked in ids(with_prompt) and ids(before[0])[0] not in ids(with_prompt)
    assert_same(without, run(pipeline(keyframe_interval=3), street[:3])[-1])


def test_the_reset_of_one_camera_is_none_of_another(street: Images) -> None:
    one, other = two_cameras()
    for pipe in (one, other):
        run(pipe, street[:2])
    one.reset()
    assert one.process(Frame(street[2], 3)).keyframe
    results = run(other, street[2:5], start=3)
    for result, alone in zip(
        results, run(pipeline(keyframe_interval=3), street[:5])[2:], strict=True
    ):
        assert_same(result, alone)


def test_the_end_of_one_camera_is_none_of_another(street: Images) -> None:
    one, other = two_cameras()
    for pipe in (one, other):
        run(pipe, street[:2])
    one.close()
    assert_same(
        other.process(Frame(street[2], 3)), run(pipeline(keyframe_interval=3), street[:3])[-1]
    )


# -- what a stream may choose

OTHER_NETWORKS = {
    "model": "sam2.1_hiera_tiny",
    "checkpoint": "mine.pt",
    "semantics": "mine.safetensors",
    "classes": "cityscapes",
    "device": "cuda",
    "precision": "bfloat16",
    "image_size": 128,
    "network": "topic",
    "network_classes": "cityscapes",
    "allow_torchscript": True,
    "class_map": "cityscapes_to_camvid",
    "threads": 7,
    "vocabulary": ("cup",),
    "templates": ("a {}",),
    "text_model": "mine",
}


@pytest.mark.parametrize("name", NETWORK_OPTIONS)
def test_a_stream_of_other_networks_is_refused_by_name(name: str) -> None:
    perception = shared_perception(CONFIG)
    other = replace(CONFIG, **{name: OTHER_NETWORKS[name]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{name}: the networks were loaded with .*, not .*"):
        perception.stream_config(other)
    with pytest.raises(ValueError, match=f"^{name}: "):
        VssPipeline(perception, other)


def test_a_stream_may_name_the_networks_as_asked_or_as_loaded() -> None:
    asked = PipelineConfig(device="cpu")
    perception = shared_perception(asked)
    loaded, card = perception.stream_config(asked), model_card("mobile")
    assert loaded.image_size == card.image_size
    assert loaded.threads == (1 if processors() < 4 else card.cpu_threads)
    assert (loaded.engine, loaded.discovery) == (card.engine, card.discovery)
    assert loaded.max_objects == card.max_objects
    assert perception.stream_config(loaded) == loaded


def test_a_stream_chooses_all_that_is_not_of_the_networks() -> None:
    config = replace(CONFIG, model=SMALL_SAM2)
    perception = shared_perception(config)
    options = {"mode": "refine", "target_fps": 7.0, "max_objects": 8, "engine": "exact"}
    options |= {"discovery": "off", "memory_interval": 3}
    pipe = VssPipeline(perception, replace(config, **options))  # type: ignore[arg-type]
    assert {name: getattr(pipe.config, name) for name in options} == options
    assert pipe.source is None and pipe.stream.budget.target_fps == 7.0
    usual = VssPipeline(perception, config)
    assert config.max_objects == 4 and pipe.memory_bytes() == 2 * usual.memory_bytes() > 0


def test_an_unlabelled_id_that_is_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="unlabelled_id: 8 is the id of class Car"):
        shared_perception(CONFIG).stream_config(replace(CONFIG, unlabelled_id=8))


# -- images encoded ahead, and together


def tensors(image: Features) -> list[Tensor]:
    if isinstance(image, ImageFeatures):
        return [*image.pyramid, *image.high_res, image.top, image.top_pos]
    return [*image.pyramid]


@pytest.mark.parametrize(("model", "tolerance"), [("mobile", 0.1), (SMALL_SAM2, 1e-4)])
def test_images_encoded_together_are_as_each_alone(
    model: str, tolerance: float, street: Images, other_street: Images
) -> None:
    """Also of different sizes."""
    perception = shared_perception(replace(CONFIG, model=model))
    images = [street[0], other_street[0][:60], street[5]]
    with perception.arithmetic():
        together = perception.encode_images(images)
        alone = [perception.encode_images([image])[0] for image in images]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(tensors(one), tensors(other), strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)
    first, third = (image.pyramid[-1] for image in (alone[0], alone[2]))
    assert (first - third).abs().max() > 0.1, "they can be told apart"


def test_a_frame_encoded_ahead_is_answered_alike(
    street: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, usual = two_cameras()
    expected = run(usual, street[:4])
    perception = ahead.perception
    with perception.arithmetic():
        encoded = [perception.encode_images([image])[0] for image in street[:4]]
    looks = [
        ahead.look(Frame(image, t), known)
        for t, (image, known) in enumerate(zip(street, encoded, strict=False), 1)
    ]

    def never(*_: object) -> None:
        raise AssertionError("the features are known")

    monkeypatch.setattr(perception, "encode_images", never)
    monkeypatch.setattr(perception, "run_head", never)
    handed = iter(looks)
    for t, (image, answer) in enumerate(zip(street, expected, strict=False), 1):
        assert_same(ahead.process(Frame(image, t), lambda: next(handed)), answer)


# -- the end


def test_close_gives_the_memory_back(street: Images) -> None:
    """First what the stream remembers, then, with the last to use them, the networks."""
    config = replace(CONFIG, model=SMALL_SAM2, engine="fast")
    perception = Perception.load(config)
    closed, open_still = VssPipeline(perception, config), VssPipeline(perception, config)
    for pipe in (closed, open_still):
        run(pipe, street[:4])
    stream = closed.stream
    embeddings = [t.embedding for t in stream.objects.all() if t.embedding is not None]
    evidence = stream.smoothing._evidence
    assert embeddings and evidence is not None and len(stream.interleave._last.masks)
    remembered = [
        weakref.ref(x)
        for x in (
            stream.tracker.bank, embeddings[0], stream.interleave._last.masks, evidence, stream
        )
    ]  # fmt: skip
    networks = [
        weakref.ref(x)
        for x in (
            perception.model.network, perception._trunk.network, perception._semantics.head
        )
    ]  # fmt: skip
    del stream, embeddings, evidence, pipe

    closed.close()
    gc.collect()
    assert [ref() for ref in remembered] == [None] * 5
    assert all(ref() is not None for ref in networks), "another camera needs them"
    assert open_still.process(Frame(street[4], 9)).objects

    open_still.close()
    perception.close()
    gc.collect()
    assert [ref() for ref in networks] == [None] * 3


def test_nothing_of_a_closed_stream_waits_for_the_garbage_collector(street: Images) -> None:
    """Memory is given back at once, so that the next stream can have it."""
    pipe = VssPipeline(shared_perception(CONFIG), CONFIG)
    run(pipe, street[:2])
    bank = weakref.ref(pipe.stream.tracker.bank)
    gc.collect()
    gc.disable()
    try:
        pipe.close()
        assert bank() is None
    finally:
        gc.enable()
