"""What moves by itself before a camera that moves, and the objects that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam2vss_ros.affinity.discovery import MOST_MOVING, ObjectSource, moving_regions
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.keys import plain_keys
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.discovery import View
from sam2vss_ros.stream.motion import Motion
from sam2vss_ros.stream.movers import MOVES, Movers, Moving

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

HEIGHT, WIDTH, FRAMES = 180, 320, 9
SHAPE = (112, 224)


def texture(seed: int, height: int, width: int, tint: Sequence[int]) -> Image:
    """Blobs of several sizes around a colour."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), tint, np.float32)
    for sigma in (2, 6, 15):
        noise = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), sigma)
        image += (noise / noise.std() * 18)[..., None]
    return image.clip(0, 255).astype(np.uint8)


GROUND = texture(0, 400, 800, (120, 130, 90))
WALL = texture(1, 400, 800, (110, 110, 150))
PATCH = texture(2, 60, 70, (190, 90, 70))


def view(world: Image, x: float, y: float, zoom: float = 1.0) -> Image:
    """What a camera shows whose middle is at x, y of a plane."""
    matrix = np.array(
        [[zoom, 0, WIDTH / 2 - zoom * x], [0, zoom, HEIGHT / 2 - zoom * y]], np.float32
    )
    shown = cv2.warpAffine(
        world, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(shown, np.uint8)


def panning(t: int) -> Image:
    return view(GROUND, 250 + 5 * t, 200 + t, 1 + 0.01 * t)


def with_patch(t: int) -> tuple[Image, Mask]:
    """A patch that moves to the left while the camera moves to the right and comes closer."""
    image, mask = panning(t), np.zeros((HEIGHT, WIDTH), bool)
    box = np.s_[70 : 70 + len(PATCH), 180 - 3 * t : 180 - 3 * t + PATCH.shape[1]]
    image[box], mask[box] = PATCH, True
    return image, mask


def driving(t: int) -> Image:
    """Walls on both sides, and the ground: what is nearer grows faster."""
    image = view(GROUND, 400, 200, 1.02**t)
    near = view(WALL, 400, 200, 1.07**t)
    x, y = np.meshgrid(np.arange(WIDTH) - WIDTH / 2, np.arange(HEIGHT) - HEIGHT / 2)
    beside = (np.abs(x) > 60 * 1.07**t) & (np.abs(y) < 50 * 1.07**t)
    image[beside] = near[beside]
    return image


def passing(t: int) -> Image:
    """The camera moves aside: near ground in front of what is twice as far away."""
    image, near = view(GROUND, 250 + 3 * t, 200), view(WALL, 250 + 6 * t, 200)
    image[150:] = near[150:]
    return image


def watch(images: Sequence[Image]) -> Moving:
    """The evidence on the last of some frames."""
    motion, movers = Motion(), Movers()
    for image in images:
        flow = motion.follow(image)
        assert motion.last is not None
        moving = movers.add(motion.last.image, flow)
    return moving


def share(moving: Moving) -> float:
    return float((moving.evidence > MOVES).mean())


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu")


def features(model: AffinityModel, image: Image) -> TrunkFeatures:
    with torch.inference_mode():
        pixels = functional.image_tensor(image, model.image_size, model.device)
        return model.encode(pixels)


def found(model: AffinityModel, images: Sequence[Image]) -> Mask:
    """(N, *SHAPE), what moves by itself on the last of some frames."""
    keys = plain_keys(features(model, images[-1]).pyramid, 8)[0].numpy()
    masks, clear = moving_regions(keys, watch(images), SHAPE, 0.005)
    assert len(masks) == len(clear) and list(clear) == sorted(clear, reverse=True)
    return masks


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_patch_that_moves_before_a_moving_camera_is_found(model: AffinityModel) -> None:
    images, masks = zip(*map(with_patch, range(FRAMES)), strict=True)
    (mask,) = found(model, images)
    truth = cv2.resize(masks[-1].astype(np.uint8), SHAPE[::-1], interpolation=cv2.INTER_AREA) > 0
    assert iou(mask, truth) > 0.7


@pytest.mark.parametrize("scene", [panning, driving, lambda t: panning(0)])
def test_what_stands_still_before_a_moving_camera_is_no_object(
    model: AffinityModel, scene: Callable[[int], Image]
) -> None:
    images = [scene(t) for t in range(2 * FRAMES)]
    assert share(watch(images)) < 0.02
    assert len(found(model, images)) == 0


def test_near_ground_is_no_object(model: AffinityModel) -> None:
    """It moves otherwise than all the rest, but from side to side. A thing before a wall would be
    one: what is near and stands still moves as what is far and goes along."""
    images = [passing(t) for t in range(2 * FRAMES)]
    assert 0.05 < share(watch(images)) < MOST_MOVING
    assert len(found(model, images)) == 0


def test_evidence_is_kept_while_a_thing_pauses_and_goes_within_seconds() -> None:
    images = [with_patch(t)[0] for t in range(FRAMES)]
    (moved, mask) = with_patch(FRAMES - 1)
    here = cv2.resize(mask.astype(np.uint8), (WIDTH // 2, HEIGHT // 2)) > 0
    before = watch(images).evidence[here].mean()
    after = [watch(images + [moved] * n).evidence[here].mean() for n in (2, 20)]
    assert before > after[0] > 0.4 * before
    assert after[1] < 0.1 * before


def test_nothing_is_said_of_the_first_frame_and_after_a_cut() -> None:
    movers = Movers()
    assert not movers.add(panning(0), None).evidence.any()
    motion = Motion()
    for t in range(FRAMES):
        image = with_patch(t)[0]
        flow = motion.follow(image)
        assert motion.last is not None
        moving = movers.add(motion.last.image, flow)
    assert moving.evidence.any()
    movers.clear()
    motion.clear()
    assert not movers.add(panning(0), motion.follow(panning(0))).evidence.any()


# -- with known things


THINGS = np.array([False, True])


def proposals(model: AffinityModel, known: Mask, sure: float = 0.7) -> npt.NDArray[np.bool_]:
    """What is found with the patch in motion, where `known` is of a countable class.

    sure: probability of each pixel's class.
    """
    images = [with_patch(t)[0] for t in range(FRAMES)]
    dense = torch.from_numpy(np.where([~known, known], sure, 1 - sure).astype(np.float32))
    source = ObjectSource(THINGS)
    seen = features(model, images[-1])
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    view = View(seen, dense, moving=watch(images))
    answer = source.propose(view, everywhere, PipelineConfig(max_objects=4))
    assert len(answer.masks) == len(answer.score)
    return answer.masks.numpy()


def patch_now() -> Mask:
    mask = with_patch(FRAMES - 1)[1].astype(np.uint8)
    return cv2.resize(mask, SHAPE[::-1], interpolation=cv2.INTER_AREA) > 0


def test_a_known_thing_that_moves_is_found_once_as_it_is_known(model: AffinityModel) -> None:
    (mask,) = proposals(model, patch_now())
    assert np.array_equal(mask, patch_now())


def test_what_surely_is_no_thing_is_none(model: AffinityModel) -> None:
    nothing = np.zeros(SHAPE, bool)
    assert len(proposals(model, nothing, sure=0.8)) == 0
    assert len(proposals(model, nothing, sure=0.7)) == 1


def test_a_known_part_of_what_moves_gives_way_to_the_whole(model: AffinityModel) -> None:
    part = patch_now()
    part[:, : np.flatnonzero(part.any(0)).mean().astype(int) + 12] = False
    (mask,) = proposals(model, part)
    assert iou(mask, patch_now()) > 0.7


def test_known_things_elsewhere_come_after_what_moves_and_leave_it_room(
    model: AffinityModel,
) -> None:
    known = np.zeros(SHAPE, bool)
    for x in range(5, 215, 30):
        known[90:105, x : x + 15] = True
    masks = proposals(model, known)
    assert len(masks) == 1 + 2, "half of four places"
    assert iou(masks[0], patch_now()) > 0.7
