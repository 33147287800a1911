"""Points and boxes with the embedded model: on drawn pictures, and on real ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam2vss_ros.affinity.borders import redrawn
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.outline import OutlineNet, outline
from sam2vss_ros.affinity.pointing import (
    CUES,
    INSIDE,
    NOWHERE,
    OUTSIDE,
    compare,
    pointers_of,
    points_of_box,
)
from sam2vss_ros.bench.clips import read_sequences
from sam2vss_ros.bench.tracking import click
from sam2vss_ros.evaluation.mask_scores import mask_iou
from sam2vss_ros.sam2.functional import image_tensor, normalise
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.types import Prompt

HEIGHT, WIDTH = 288, 512
CPU = torch.device("cpu")
Rgb = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


@pytest.fixture(scope="module")
def picture() -> Rgb:
    """A lawn with two discs, red on the left and blue on the right."""
    grains = np.random.default_rng(0).normal(0, 12, (HEIGHT // 4, WIDTH // 4, 3))
    noise = cv2.resize(grains.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = noise + (70, 130, 60)
    for x, colour in ((130, (190, 40, 40)), (380, (40, 60, 190))):
        image[disc(x)] = colour + 0.5 * noise[disc(x)]
    return np.clip(image, 0, 255).astype(np.uint8)


def disc(x: int) -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(np.hypot(rows - 140, columns - x) < 60)


def features_of(model: AffinityModel, image: Rgb) -> TrunkFeatures:
    size = model.input_size((image.shape[0], image.shape[1]))
    with torch.inference_mode():
        return model.encode(image_tensor(image, size, CPU))


def answer(model: AffinityModel, image: Rgb, prompt: Prompt) -> npt.NDArray[np.bool_]:
    """(H, W) bool: what a prompt marks."""
    height, width = image.shape[:2]
    features, tracker = features_of(model, image), model.new_tracker(1, PRESETS["exact"])
    with torch.inference_mode():
        found = tracker.from_prompt(features, 0, prompt, (height, width))
    assert found.slots == (0,) and found.masks.shape == (1, *features.mask_size)
    assert 0 < float(found.predicted_iou) <= 1
    return cv2.resize(found.masks[0].numpy(), (width, height)) > 0


def points(*given: tuple[float, float, int]) -> Prompt:
    return Prompt(
        points=np.array([p[:2] for p in given], np.float32),
        point_labels=np.array([p[2] for p in given], np.int32),
    )


# -- prompts


def test_points_are_shares_of_the_image() -> None:
    pointers = pointers_of(points((50, 30, 1), (100, 60, 0)), (60, 100))
    torch.testing.assert_close(pointers.points, torch.tensor([[[0.5, 0.5], [1.0, 1.0]]]))
    assert pointers.labels.tolist() == [[INSIDE, OUTSIDE]] and not pointers.boxed.any()
    boxed = pointers_of(Prompt(box=(10, 6, 50, 30)), (60, 100))
    torch.testing.assert_close(boxed.boxes, torch.tensor([[0.1, 0.1, 0.5, 0.5]]))
    assert boxed.boxed.all()


def test_a_box_has_its_middle_inside_and_what_is_around_outside() -> None:
    box = torch.tensor([0.2, 0.4, 0.6, 0.995])
    where, labels = points_of_box(box)
    low, high = box[:2], box[2:]
    assert labels[4] == INSIDE and torch.allclose(where[4], (low + high) / 2)
    within = ((where >= low) & (where <= high)).all(1)
    assert within.tolist() == [i == 4 for i in range(9)]
    beyond = where[:, 1] >= 1
    assert (labels[beyond] == NOWHERE).all() and beyond.sum() == 3
    assert (labels == OUTSIDE).sum() == 5


def test_what_is_pointed_at_is_most_alike_to_itself(model: AffinityModel, picture: Rgb) -> None:
    features = features_of(model, picture)
    maps = compare(
        features.pyramid, features.colours, pointers_of(points((130, 140, 1)), (HEIGHT, WIDTH))
    )
    assert maps.shape == (1, CUES, HEIGHT // 4, WIDTH // 4) and maps.isfinite().all()
    like = maps[0, 0]
    assert like[140 // 4, 130 // 4] > 0.8 > like[140 // 4, 380 // 4] + 0.2
    assert (maps[0, 1] == -1).all(), "nothing is like a point outside where there is none"


# -- masks


@pytest.mark.parametrize("x", [130, 380])
def test_a_click_outlines_a_thing(model: AffinityModel, picture: Rgb, x: int) -> None:
    assert mask_iou(disc(x), answer(model, picture, points((x, 140, 1)))) > 0.85


def test_a_box_outlines_what_is_in_it(model: AffinityModel, picture: Rgb) -> None:
    assert mask_iou(disc(130), answer(model, picture, Prompt(box=(70, 80, 190, 200)))) > 0.85


@pytest.mark.parametrize("seed", range(4))
def test_points_end_on_the_side_they_name(model: AffinityModel, picture: Rgb, seed: int) -> None:
    """Wherever they lie, also those that contradict what the picture shows."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0.05, 0.95, (6, 2)) * (WIDTH, HEIGHT)
    given = [(float(x), float(y), int(i < 3)) for i, (x, y) in enumerate(xy)]
    mask = answer(model, picture, points(*given))
    for x, y, label in given:
        assert mask[int(y), int(x)] == label


def test_more_points_refine(model: AffinityModel, picture: Rgb) -> None:
    both = answer(model, picture, points((130, 140, 1), (380, 140, 1)))
    assert mask_iou(disc(130) | disc(380), both) > 0.7
    one = answer(model, picture, points((130, 140, 1), (380, 140, 0)))
    assert mask_iou(disc(130), one) > 0.8


def test_a_box_that_nothing_fits_is_taken_as_it_is(model: AffinityModel, picture: Rgb) -> None:
    silent = OutlineNet().eval()
    torch.nn.init.constant_(silent.up2[-1].weight, 0)  # type: ignore[arg-type]
    torch.nn.init.constant_(silent.up2[-1].bias, -1)  # type: ignore[arg-type]
    features = features_of(model, picture)
    for box, area in (((64, 64, 96, 96), 16 * 16), ((511.9, 287.9, 512, 288), 1)):
        pointers = pointers_of(Prompt(box=box), (HEIGHT, WIDTH))
        with torch.inference_mode():
            mask, sure = outline(silent, features.pyramid, features.colours, pointers)
        assert (mask > 0).sum() == area and 0 < float(sure) < 1


def test_a_border_is_redrawn_where_the_colours_are_known(picture: Rgb) -> None:
    """Of what is large enough; a rough mask of the disc becomes the disc."""
    image = normalise(torch.from_numpy(picture)[None].permute(0, 3, 1, 2))[0]
    rough = torch.from_numpy(np.roll(disc(130), (5, 7), (0, 1)))
    better = redrawn(rough, image)
    assert mask_iou(disc(130), rough.numpy()) < 0.87 < mask_iou(disc(130), better.numpy()) - 0.08
    kept = torch.zeros_like(rough)
    kept[:130] = True
    assert not (redrawn(rough, image, kept) & ~kept).any()
    small = torch.zeros_like(rough)
    small[140:160, 120:140] = True
    assert torch.equal(redrawn(small, image), small)


def test_one_click_outlines_real_objects(model: AffinityModel, shared: Path) -> None:
    ious = {}
    for clip in read_sequences(shared / "data" / "davis"):
        image, truth = clip.image(0), clip.masks(0)[0]
        prompt = click(truth, (image.shape[1], image.shape[0]))
        ious[clip.name] = mask_iou(truth, answer(model, image, prompt))
    assert np.mean(list(ious.values())) > 0.55, ious
