"""Images of odd shapes: what is derived from their size is bounded, and the stream goes on."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipelines import open_pipeline
from sam2vss_ros.affinity.model import SIZE_STEP
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.io.overlay import _draw_outlines, contact_sheet, draw_overlay
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.networks.inputs import LEAST_SIDE, MOST_SIDE, Input
from sam2vss_ros.semantics.networks.labels import LabelImages
from sam2vss_ros.sizes import MOST_ASPECT, bounded_aspect, other_side, with_longer_side
from sam2vss_ros.stream.motion import LONGER_SIDE, Motion
from sam2vss_ros.types import Frame, Prompt
from small_sam2 import BOTH_MODELS
from streams import find, ids

ODD = [(16, 4000), (4000, 16), (1, 4000), (4000, 1), (1, 1), (2, 2), (3, 5), (1, 65_000), (33, 17)]
"""Heights and widths."""

ORDINARY = 96, 128


def street(height: int, width: int, shift: int = 0) -> npt.NDArray[np.uint8]:
    """Sky, road, and a car that stands `shift` hundredths of the width to the right."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    image = np.where((y < 0.5)[..., None], (150, 190, 230), (90, 90, 95))
    car = (abs(y - 0.67) < 0.12) & (abs(x - 0.4 - shift / 100) < 0.12)
    image[car] = (180, 30, 30)
    return image.astype(np.uint8)


@pytest.mark.parametrize("size", ODD)
def test_the_aspect_is_bounded(size: tuple[int, int]) -> None:
    rows, columns = bounded_aspect(*size)
    assert max(rows, columns) == max(size)
    assert max(rows, columns) <= MOST_ASPECT * min(rows, columns)
    rows, columns = with_longer_side(*size, 320)
    assert max(rows, columns) == 320 and min(rows, columns) >= 320 // MOST_ASPECT


def test_ordinary_sizes_keep_their_aspect() -> None:
    assert bounded_aspect(480, 640) == (480, 640)
    assert with_longer_side(1080, 1920, 320) == (180, 320)
    assert with_longer_side(128, 1024, 320) == (40, 320)
    assert other_side(480, 1920, 1080) == 270


def test_flow_is_found_at_every_shape() -> None:
    """OpenCV's ends the process where a side is too short for its patches."""
    rng = np.random.default_rng(0)
    for size in [*ODD, *[(100, 100 * aspect) for aspect in range(1, 40)], (700, 88), (88, 700)]:
        motion = Motion()
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        assert motion.follow(image) is None
        flow = motion.follow(image)
        assert flow is not None and max(flow.places.shape[-2:]) == LONGER_SIDE


@pytest.mark.parametrize("shape", [Input(), Input(shortest=512), Input(shortest=1024, multiple=32)])
def test_the_input_of_a_network_is_bounded(shape: Input) -> None:
    for size in [*ODD, (4320, 7680), (8000, 8000)]:
        sides = shape.size_for(*size)
        assert min(sides) >= LEAST_SIDE and max(sides) <= MOST_SIDE + shape.multiple
        assert max(sides) <= (MOST_ASPECT + 1) * min(sides)
        assert not any(side % shape.multiple for side in sides)
    assert Input().size_for(480, 640) == (480, 640)
    assert Input(shortest=512).size_for(480, 640) == (512, 683)
    assert Input(shortest=512, longest=600).size_for(480, 640) == (450, 600)
    assert Input().size_for(2160, 3840) == (1152, 2048)
    assert Input(size=(40, 5000)).size_for(1, 1) == (40, 5000)  # what its author says


def test_large_labels_of_a_topic_are_bounded() -> None:
    catalog = load_catalog("camvid")
    network = LabelImages(catalog, torch.device("cpu"))
    labels = np.zeros((4320, 7680), np.uint8)
    labels[:, 3840:] = catalog.ids[3]
    frame = Frame(np.zeros((4, 8, 3), np.uint8), 1, labels)
    found = network.log_probabilities(frame).argmax(0)
    assert found.shape == (1152, 2048)
    assert (found[:, 1024:] == 3).all() and (found[:, :1024] == int(found[0, 0])).all()


@pytest.mark.parametrize("model", BOTH_MODELS)
def test_odd_images_are_no_more_work_than_others(model: str) -> None:
    pipe = open_pipeline(PipelineConfig(device="cpu", model=model, image_size=256))
    stamp = 0

    def seconds(size: tuple[int, int]) -> float:
        nonlocal stamp
        times = []
        for shift in range(4):
            stamp += 1
            image = street(*size, shift)
            start = time.perf_counter()
            result = pipe.process(Frame(image, stamp))
            times.append(time.perf_counter() - start)
            assert result.label_image.shape == result.instance_image.shape == size
            assert draw_overlay(image, result, pipe.catalog).shape == image.shape
        return min(times)

    seconds((480, 640))
    usual = seconds((480, 640))
    for size in ODD:
        assert seconds(size) < 10 * usual, size


@pytest.mark.parametrize("size", [(16, 4000), (4000, 16), (1, 4000), (1, 1), (2, 2)])
def test_an_odd_image_between_others_costs_no_object(size: tuple[int, int]) -> None:
    """All is as in a stream that saw none."""
    config = {"discovery": "regions", "min_class_score": 0.0, "max_objects": 4, "image_size": 256}
    pipe, calm = (
        open_pipeline(PipelineConfig.from_mapping({"device": "cpu"} | config)) for _ in range(2)
    )
    for i in range(4):
        before, same = (p.process(Frame(street(*ORDINARY, i), i + 1)) for p in (pipe, calm))
    for stamp in range(5, 13, 2):
        during = pipe.process(Frame(street(*size), stamp))
        assert ids(during) == ids(before) and during.label_image.shape == size
        assert (during.instance_image == 0).all()
        image = street(*ORDINARY, 4)
        before, same = (p.process(Frame(image, stamp + 1)) for p in (pipe, calm))
        seen = {i: find(before, i).area for i in ids(before)}
        assert seen == {i: find(same, i).area for i in ids(same)}
        assert sum(area > 100 for area in seen.values()) >= 2


def test_a_prompt_waits_for_an_image_of_its_size() -> None:
    pipe = open_pipeline(PipelineConfig(device="cpu", image_size=256, discovery="off"))
    pipe.process(Frame(street(*ORDINARY), 1))
    asked = pipe.add_prompt(Prompt(box=(35.0, 52.0, 66.0, 76.0)))
    assert not pipe.process(Frame(street(1, 4000), 2)).objects
    assert ids(pipe.process(Frame(street(*ORDINARY), 3))) == [asked]


def test_a_camera_of_odd_images_has_a_stream_of_its_own() -> None:
    config = {"discovery": "regions", "min_class_score": 0.0, "max_objects": 4, "image_size": 256}
    pipe = open_pipeline(PipelineConfig.from_mapping({"device": "cpu"} | config))
    pipe.process(Frame(street(*ORDINARY), 1))
    assert not pipe.process(Frame(street(20, 400), 2)).keyframe  # stray
    answers = [pipe.process(Frame(street(20, 400, i), 3 + i)) for i in range(3)]
    assert answers[0].keyframe and any(o.area for o in answers[-1].objects)


def test_pictures_for_people_are_bounded() -> None:
    assert contact_sheet([np.zeros((4000, 1, 3), np.uint8)], 1, 100).shape[0] < 1000
    assert contact_sheet([np.zeros((1, 4000, 3), np.uint8)], 1, 100).shape[0] < 100


def test_rims_are_no_thicker_than_at_1080_rows() -> None:
    """Their time grows with the square of their width: at 8K they would take seconds."""
    for height in (1080, 4320):
        instances = np.zeros((height, height), np.uint16)
        instances[100:-100, 100:-100] = 7
        canvas = np.zeros((height, height, 3), np.uint8)
        _draw_outlines(canvas, instances)
        rim = canvas[height // 2].any(1)
        assert rim[100:104].all() and rim[-104:-100].all() and rim.sum() == 8


def test_the_input_of_the_model_is_bounded() -> None:
    pipe = open_pipeline(PipelineConfig(device="cpu", image_size=512))
    for size in ODD:
        sides = pipe.perception.model.input_size(size)
        assert max(sides) == 512 and min(sides) >= SIZE_STEP and not sides[0] % SIZE_STEP
    wide = [pipe.perception.model.input_size((100, w))[0] for w in range(100, 3000, 100)]
    assert all(a >= b for a, b in pairwise(wide)) and wide[0] == 512
