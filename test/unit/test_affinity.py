"""Masks carried by affinity: on pictures that move, with the trunk that the package has."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.keys import LEVEL_CHANNELS, KeyNet, plain_keys
from sam2vss_ros.affinity.memory import COARSE, CONDITIONING, FINE, AffinityMemory
from sam2vss_ros.affinity.model import AffinityModel, load_affinity_model
from sam2vss_ros.affinity.trunk import CHANNELS, Bottleneck, Trunk, folded_weights
from sam2vss_ros.errors import ModelUnavailableError
from sam2vss_ros.sam2.functional import image_tensor, normalise
from sam2vss_ros.sam2.options import PRESETS
from sam2vss_ros.stream.motion import Flow, Motion
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Prompt

SIZE = 192
MASKS = SIZE // 2
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> AffinityModel:
    return load_affinity_model("mobile", device="cpu", image_size=SIZE)


def texture(seed: int, size: int) -> npt.NDArray[np.uint8]:
    grains = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    return np.asarray(cv2.resize(grains, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def scene(*corners: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """A wall with squares of other textures, given by left, top and side in pixels."""
    image = texture(0, SIZE).copy()
    for i, (x, y, side) in enumerate(corners, 1):
        image[y : y + side, x : x + side] = texture(i, 96)[:side, :side] // 2 + (0, 60 * i, 40)
    return image


def square(x: int, y: int, side: int) -> Tensor:
    """(1, MASKS, MASKS) bool, where a square is."""
    mask = torch.zeros(1, MASKS, MASKS, dtype=torch.bool)
    mask[:, y // 2 : (y + side) // 2, x // 2 : (x + side) // 2] = True
    return mask


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_pixels_are_looked_up_as_they_would_be_normalised() -> None:
    values = np.random.default_rng(0).permutation(np.arange(256, dtype=np.uint8).repeat(3))
    image = values.reshape(16, 16, 3)
    pixels = image_tensor(image, 16, CPU)
    assert torch.equal(pixels, normalise(torch.from_numpy(image)[None].permute(0, 3, 1, 2)))
    assert pixels.is_contiguous(memory_format=torch.channels_last)


class Film:
    """Frames of a stream: their features, and the flow from each to the one before."""

    def __init__(self, model: AffinityModel) -> None:
        self._model, self._motion = model, Motion()

    def show(self, image: npt.NDArray[np.uint8]) -> tuple[TrunkFeatures, Flow | None]:
        with torch.inference_mode():
            size = self._model.input_size((image.shape[0], image.shape[1]))
            features = self._model.encode(image_tensor(image, size, CPU))
        return features, self._motion.follow(image)


# -- the trunk


def test_folded_weights_are_convolution_and_normalisation() -> None:
    torch.manual_seed(1)
    state: dict[str, Tensor] = {}
    blocks = Trunk().blocks
    layers: dict[str, nn.Sequential] = {}
    for i, block in enumerate(blocks):
        convs = [c for c in (block.expand, block.filter, block.project) if c is not None] \
            if isinstance(block, Bottleneck) else [block]  # fmt: skip
        for j, conv in enumerate(convs):
            assert isinstance(conv, nn.Conv2d)
            norm = nn.BatchNorm2d(conv.out_channels)
            for values in (norm.weight.data, norm.bias.data, norm.running_mean):
                assert values is not None
                values.normal_()
            assert norm.running_var is not None
            norm.running_var.uniform_(0.5, 2)
            plain = nn.Conv2d(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,  # type: ignore
                conv.padding, groups=conv.groups, bias=False,  # type: ignore[arg-type]
            )  # fmt: skip
            place = "features.0." if i == 0 else f"features.{i}.conv."
            state[f"{place}{3 * j}.weight"] = plain.weight.data
            state |= {f"{place}{3 * j + 1}.{k}": v for k, v in norm.state_dict().items()}
            layers[f"{i}.{j}"] = nn.Sequential(plain, norm).eval()
    folded = Trunk()
    folded.load_state_dict(folded_weights(state))
    x = torch.randn(1, 3, 32, 32)
    first = folded.blocks[1]
    assert isinstance(first, Bottleneck) and first.expand is None
    with torch.inference_mode():
        torch.testing.assert_close(folded.blocks[0](x), layers["0.0"](x).clamp(0, 6))
        y = torch.randn(1, 32, 16, 16)
        expected = layers["1.1"](layers["1.0"](y).clamp(0, 6))
        torch.testing.assert_close(first(y), expected, atol=1e-4, rtol=1e-4)


def test_maps_at_three_strides(model: AffinityModel) -> None:
    features, _ = Film(model).show(scene())
    sides = [(m.shape[1], m.shape[-1]) for m in features.pyramid]
    assert sides == list(zip(CHANNELS, (SIZE // 4, SIZE // 8, SIZE // 16), strict=True))


def test_what_is_everywhere_tells_nothing() -> None:
    torch.manual_seed(0)
    pyramid = tuple(torch.randn(1, c, 96 // s, 96 // s) for c, s in ((24, 4), (32, 8), (96, 16)))
    lit = tuple(m + 3 * torch.randn(1, m.shape[1], 1, 1) for m in pyramid)
    network = KeyNet()
    for make, channels, side in (
        (network, COARSE.channels, 12),
        (lambda x: network.fine_keys(x), FINE.channels, 24),
        (lambda x: plain_keys(x, 4), sum(CHANNELS), 24),
        (lambda x: plain_keys(x, 8), sum(LEVEL_CHANNELS), 12),
    ):
        keys = make(pyramid)
        assert keys.shape == (1, side, side, channels)
        torch.testing.assert_close(keys.norm(dim=-1), torch.ones(1, side, side))
        torch.testing.assert_close(make(lit), keys, atol=1e-4, rtol=1e-4)


# -- the tracker


@pytest.mark.parametrize("seed", [5, 11, 20])
@torch.inference_mode()
def test_things_of_a_street_are_followed(model: AffinityModel, seed: int) -> None:
    clip = make_clip(seed, 13, (128, 192), kind="street")
    truth = torch.from_numpy(clip.instances.astype(np.int64)[:, ::2, ::2])
    areas = [(truth == i).float().mean((1, 2)) for i in range(int(truth.max()) + 1)]
    ids = [i for i, area in enumerate(areas) if i and area.min() > 0.005 and area[0] < 0.25]
    masks = torch.stack([truth == i for i in ids], 1)
    tracker, film = model.new_tracker(len(ids), PRESETS["exact"]), Film(model)
    slots = list(range(len(ids)))
    features, _ = film.show(clip.frames[0])
    tracker.start(features, tracker.from_masks(features, slots, masks[0]))
    for frame in clip.frames[1:]:
        features, flow = film.show(frame)
        found = tracker.step(features, slots, flow)
        tracker.commit(features, found)
    assert found.slots == tuple(slots)
    assert ((found.predicted_iou > 0) & (found.predicted_iou <= 1)).all()
    ours = np.mean([iou(a > 0, b) for a, b in zip(found.masks, masks[-1], strict=True)])
    left = np.mean([iou(a, b) for a, b in zip(masks[0], masks[-1], strict=True)])
    assert ours > left + 0.25, (ours, left)


@torch.inference_mode()
def test_what_stands_still_stays_as_it_is(model: AffinityModel) -> None:
    """On coarse keys and on fine ones."""
    tracker, film = model.new_tracker(2, PRESETS["exact"]), Film(model)
    image = scene((20, 60, 64), (140, 20, 12))
    masks = torch.cat([square(20, 60, 64), square(140, 20, 12)])
    features, _ = film.show(image)
    tracker.start(features, tracker.from_masks(features, [1, 0], masks))
    for _ in range(12):
        features, flow = film.show(image)
        found = tracker.step(features, [1, 0], flow)
        tracker.commit(features, found)
    assert found.slots == (1, 0)
    assert all(iou(a > 0, b) > 0.95 for a, b in zip(found.masks, masks, strict=True))


@torch.inference_mode()
def test_what_is_covered_is_not_seen(model: AffinityModel) -> None:
    tracker, film = model.new_tracker(1, PRESETS["exact"]), Film(model)
    features, _ = film.show(scene((60, 60, 48)))
    tracker.start(features, tracker.from_masks(features, [0], square(60, 60, 48)))
    for _ in range(4):
        features, flow = film.show(scene())
        found = tracker.step(features, [0], flow)
        tracker.commit(features, found)
    assert float((found.masks > 0).float().mean()) < 0.01


@torch.inference_mode()
def test_objects_of_more_frames_than_are_remembered(model: AffinityModel) -> None:
    """Each begins on a frame of its own; those of the oldest begin again, and are not lost."""
    count = CONDITIONING + 2
    places = [(10 + 60 * (i % 3), 10 + 90 * (i // 3), 44) for i in range(count)]
    tracker, film = model.new_tracker(count, PRESETS["exact"]), Film(model)
    held = 0
    for t in range(count + 6):
        features, flow = film.show(scene(*places))
        known = list(range(min(t, count)))
        found = tracker.step(features, known, flow)
        held = held or tracker.bank.nbytes()
        tracker.commit(features, found)
        if t < count:
            x, y, side = places[t]
            new = tracker.from_masks(features, [t], square(x, y, side))
            tracker.start(features, new)
    for i, (x, y, side) in enumerate(places):
        assert iou(found.masks[i : i + 1] > 0, square(x, y, side)) > 0.9, i
    assert tracker.bank.nbytes() == held


@torch.inference_mode()
def test_who_is_not_asked_for_is_forgotten(model: AffinityModel) -> None:
    tracker, film = model.new_tracker(2, PRESETS["exact"]), Film(model)
    image = scene((10, 10, 50), (120, 120, 50))
    features, _ = film.show(image)
    both = torch.cat([square(10, 10, 50), square(120, 120, 50)])
    tracker.start(features, tracker.from_masks(features, [0, 1], both))
    features, flow = film.show(image)
    assert tracker.step(features, [1], flow).slots == (1,)
    features, flow = film.show(image)
    found = tracker.step(features, [0, 1], flow)
    assert not (found.masks[0] > 0).any() and iou(found.masks[1:] > 0, both[1:]) > 0.8


@pytest.mark.parametrize("size", [(96, 192), (192, 128), (160, 192)])
@torch.inference_mode()
def test_an_object_is_carried_where_it_goes_in_any_aspect(
    model: AffinityModel, size: tuple[int, int]
) -> None:
    """To the far end of the longer side, so that neither rows nor columns may be mistaken."""
    height, width = size
    tracker, film = model.new_tracker(2, PRESETS["exact"]), Film(model)
    wide = width > height
    for t in range(13):
        x, y = (10 + 8 * t, 40) if wide else (40, 10 + 8 * t)
        image = texture(0, SIZE)[:height, :width].copy()
        image[y : y + 40, x : x + 40] = texture(1, 96)[:40, :40] // 2 + (0, 60, 40)
        truth = torch.zeros(1, height // 2, width // 2, dtype=torch.bool)
        truth[:, y // 2 : y // 2 + 20, x // 2 : x // 2 + 20] = True
        features, flow = film.show(image)
        if t == 0:
            tracker.start(features, tracker.from_masks(features, [1], truth))
            held = tracker.bank.nbytes()
        else:
            found = tracker.step(features, [1], flow)
            tracker.commit(features, found)
    assert features.mask_size == (height // 2, width // 2) == model.mask_size(size)
    # Some of the wall that comes into sight behind it stays with it; tiles that rest lag behind.
    kept = float((found.masks[truth] > 0).float().mean())
    assert iou(found.masks > 0, truth) > 0.4 and kept > 0.7
    assert tracker.bank.nbytes() == held > 0
    assert tracker.nothing().masks.shape == (0, height // 2, width // 2)


@torch.inference_mode()
def test_images_of_another_aspect_begin_with_an_empty_memory(model: AffinityModel) -> None:
    """What it held is forgotten; its bytes are those of the new size, and the old ones after."""
    tracker, film = model.new_tracker(1, PRESETS["exact"]), Film(model)
    wide, tall = scene()[:128], scene()[:, :128]
    mask = torch.zeros(1, *model.mask_size((128, SIZE)), dtype=torch.bool)
    mask[:, 10:40, 10:40] = True
    features, _ = film.show(wide)
    assert tracker.bank.nbytes() == 0, "no frame has come yet"
    tracker.start(features, tracker.from_masks(features, [0], mask))
    held = tracker.bank.nbytes()
    for image, size in ((tall, (MASKS, 64)), (scene(), (MASKS, MASKS)), (wide, (64, MASKS))):
        found = tracker.step(film.show(image)[0], [0], None)
        assert found.masks.shape == (1, *size) and not (found.masks > 0).any()
    assert tracker.bank.nbytes() == held > 0


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ((360, 480), (384, 512)),
        ((480, 854), (288, 512)),
        ((1280, 720), (512, 288)),
        ((64, 64), (512, 512)),
        ((10, 4000), (32, 512)),
    ],
)
def test_the_input_keeps_the_aspect_of_the_camera(
    camera: tuple[int, int], expected: tuple[int, int]
) -> None:
    usual = load_affinity_model("mobile", device="cpu")
    assert usual.input_size(camera) == expected
    assert usual.mask_size(camera) == (expected[0] // 2, expected[1] // 2)


@torch.inference_mode()
def test_memory_is_given_back_and_taken_again(model: AffinityModel) -> None:
    tracker, film = model.new_tracker(2, PRESETS["exact"]), Film(model)
    features, _ = film.show(scene((60, 60, 48)))
    tracker.start(features, tracker.from_masks(features, [0], square(60, 60, 48)))
    held = tracker.bank.nbytes()
    tracker.bank.release()
    assert tracker.bank.nbytes() == 0
    tracker.bank.allocate()
    assert tracker.bank.nbytes() == held > 0
    assert not len(tracker.step(film.show(scene())[0], [], None).slots)
    found = tracker.step(film.show(scene())[0], [0], None)
    assert not (found.masks > 0).any()


def test_masks_are_taken_as_they_are(model: AffinityModel) -> None:
    tracker = model.new_tracker(1, PRESETS["exact"])
    fine, other = torch.zeros(1, 24, SIZE // 4, SIZE // 4), torch.zeros(0)
    none = TrunkFeatures((fine, other, other), other, model.key_net)
    dot = torch.zeros(1, 500, 700, dtype=torch.bool)
    dot[0, 250, 351] = True
    found = tracker.from_masks(none, [0], dot)
    assert (found.masks > 0).sum() == 1, "what is smaller than a pixel of the masks grows to one"
    whole = np.zeros((60, 80), bool)
    whole[:30] = True
    taken = tracker.from_prompt(none, 0, Prompt(mask=whole), (60, 80))
    assert float((taken.masks > 0).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_older_frames_are_kept_at_intervals() -> None:
    memory = AffinityMemory(COARSE, (8, 12), 1, CPU, torch.float32)
    keys = torch.nn.functional.normalize(torch.ones(8, 12, COARSE.channels), dim=-1)
    memory.condition(0, keys)
    memory.add_object(0, 0, torch.ones(32, 48))
    for _ in range(2 * COARSE.spacing * COARSE.older + 1):
        memory.remember(keys, torch.ones(1, 32, 48))
    assert memory._known.any(1).tolist() == [True, False, False, True, True, True]
    memory.remove_object(0)
    assert not memory._known.any()
    assert not len(memory.read(keys, torch.zeros(1, 32, 48), None).objects)


# -- the model


@pytest.mark.parametrize(("belief", "is_read"), [(0.7, False), (0.4, True)])
def test_places_away_from_borders_are_read_where_the_flow_is_doubted(
    belief: float, is_read: bool
) -> None:
    torch.manual_seed(0)
    memory = AffinityMemory(COARSE, (8, 12), 1, CPU, torch.float32)
    keys = F.normalize(torch.randn(8, 12, COARSE.channels), dim=2)
    mask = torch.zeros(1, 32, 48)
    mask[0, 6:26, 10:38] = 1.0
    memory.condition(0, keys)
    memory.add_object(0, 0, mask[0])
    memory.remember(keys, mask)
    # A hole that none of the frames before had: a whole place, so that no border runs through one.
    carried = mask.clone()
    carried[0, 12:16, 20:24] = 0.05
    rows, columns = (2 * torch.arange(n) + 1 for n in (8, 12))
    x, y = (columns / 12 - 1).expand(8, 12), (rows / 8 - 1)[:, None].expand(8, 12)
    flow = Flow(torch.stack([x, y, torch.full((8, 12), belief)]))
    logits = memory.read(keys, carried, flow).logits[0]
    assert bool(logits[14, 22] > 0) == is_read
    hole = torch.zeros(32, 48, dtype=torch.bool)
    hole[12:16, 20:24] = True
    assert torch.equal((logits > 0) & ~hole, (mask[0] > 0) & ~hole)


def test_sizes_and_weights_that_do_not_do(tmp_path: object) -> None:
    with pytest.raises(ValueError, match="image_size: 100 is not a multiple of 32"):
        load_affinity_model("mobile", device="cpu", image_size=100)
    with pytest.raises(ModelUnavailableError, match=f"checkpoint {tmp_path}/none is not a file"):
        load_affinity_model("mobile", f"{tmp_path}/none", "cpu")
