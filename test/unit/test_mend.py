"""Masks of known things are mended by what the dense prediction sees of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stages import features
from sam2vss_ros.stages.batch import ObjectBatch
from sam2vss_ros.stages.features import Predicted
from sam2vss_ros.stages.mend import let_go, mend, wholes
from sam2vss_ros.stages.part import part, without_what_parted
from sam2vss_ros.stream.movers import Moving
from sam2vss_ros.types import Frame
from streams import pipeline

SIZE = (120, 160)
ROAD, CAR, PEDESTRIAN = 3, 8, 9
CAR_PLACE = (40, 30, 120, 90)

Box = tuple[int, int, int, int]


class Scene:
    """A pipeline and what it sees of a picture whose classes are painted as a test likes."""

    def __init__(self, *things: tuple[int, Box], sure: float = 0.96) -> None:
        self.pipe = pipeline()
        image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
        perception = self.pipe.perception
        with perception.arithmetic():
            seen = features.extract(perception, Frame(image, 1), "fused")
        self.height, self.width = seen.probabilities.shape[-2:]
        classes = torch.full((self.height, self.width), ROAD)
        for index, place in things:
            classes[torch.from_numpy(self.mask(place))] = index
        count = len(perception.catalog)
        one_hot = torch.nn.functional.one_hot(classes, count).permute(2, 0, 1).float()
        probabilities = one_hot * sure + (1 - one_hot) * (1 - sure) / (count - 1)
        nothing = torch.full((3, 8, 8), -9.0)
        self.seen: Predicted = dataclasses.replace(
            seen, probabilities=probabilities, middles=lambda: nothing, familiar=1.0
        )

    def mask(self, place: Box) -> npt.NDArray[np.bool_]:
        """A box of the image on the grid of the masks."""
        x0, y0, x1, y1 = place
        rows = np.arange(self.height) * SIZE[0] / self.height
        columns = np.arange(self.width) * SIZE[1] / self.width
        inside = ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))
        return np.asarray(inside)

    def followed(self, *objects: tuple[int, Box], prompted: bool = False) -> ObjectBatch:
        """Objects of these classes that were followed to these places."""
        stream, perception = self.pipe.stream, self.pipe.perception
        tracks, masks = [], []
        for index, place in objects:
            posterior = ClassPosterior(len(perception.catalog), index)
            track = stream.objects.start(stream.objects.new_id(), posterior, prompted)
            tracks.append(track)
            masks.append(torch.from_numpy(self.mask(place)))
        with perception.arithmetic():
            slots = [track.slot for track in tracks]
            found: Tracked = stream.tracker.from_masks(self.seen.image, slots, torch.stack(masks))
            stream.tracker.start(self.seen.image, found)
        return ObjectBatch.of(tracks, found)

    def mended(
        self, *objects: tuple[int, Box], prompted: bool = False
    ) -> dict[int, npt.NDArray[np.bool_]]:
        """Their masks by track id, mended."""
        perception = self.pipe.perception
        batch = self.followed(*objects, prompted=prompted)
        with perception.arithmetic():
            batch = mend(perception, self.pipe.stream, self.seen, batch)
        return {
            track.track_id: mask.numpy() > 0
            for track, mask in zip(batch.tracks, batch.masks, strict=True)
        }

    def held(self, *objects: tuple[int, Box], moving: float, prompted: bool = False) -> int:
        """How many of them are not let go, where there is such evidence that they move."""
        evidence = np.full((60, 80), moving, np.float32)
        seen = dataclasses.replace(
            self.seen, moving=Moving(evidence, np.zeros((60, 80, 3), np.float32)), familiar=1.0
        )
        batch = self.followed(*objects, prompted=prompted)
        return len(let_go(self.pipe.perception, self.pipe.stream, seen, batch))


def iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_part_becomes_the_whole() -> None:
    scene = Scene((CAR, CAR_PLACE))
    masks = scene.mended((CAR, (40, 30, 70, 90)))
    assert iou(masks[1], scene.mask(CAR_PLACE)) > 0.95


def test_what_spills_over_is_cut_off() -> None:
    scene = Scene((CAR, CAR_PLACE))
    masks = scene.mended((CAR, (10, 30, 120, 90)))
    assert iou(masks[1], scene.mask(CAR_PLACE)) > 0.95


def test_another_thing_is_given_back() -> None:
    """A car behind, over which a mask has spread; but not what touches: it may be one car."""
    near, behind = (20, 40, 80, 100), (110, 40, 140, 70)
    scene = Scene((CAR, near), (CAR, behind))
    masks = scene.mended((CAR, (20, 40, 140, 100)))
    assert iou(masks[1], scene.mask(near)) > 0.95
    scene = Scene((CAR, near), (CAR, (80, 40, 110, 70)))
    whole = scene.mask(near) | scene.mask((80, 40, 110, 70))
    masks = scene.mended((CAR, (20, 40, 110, 100)))
    assert iou(masks[1], whole) > 0.95


def test_a_speck_of_another_thing_is_not_worth_a_beginning() -> None:
    near, speck, followed = (20, 40, 80, 100), (84, 40, 88, 48), (20, 40, 88, 100)
    scene = Scene((CAR, near), (CAR, speck))
    assert iou(scene.mended((CAR, followed))[1], scene.mask(followed)) == 1


def test_what_may_be_of_the_class_is_kept() -> None:
    """Where the prediction is in doubt the tracker knows better."""
    scene = Scene((CAR, CAR_PLACE))
    doubtful = torch.from_numpy(scene.mask((10, 30, 40, 90)))
    scene.seen.probabilities[CAR, doubtful] = 0.4
    masks = scene.mended((CAR, (10, 30, 90, 90)))
    assert iou(masks[1], scene.mask((10, 30, 120, 90))) > 0.95


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        (((CAR, (42, 32, 120, 90)),), "good as it is"),
        (((PEDESTRIAN, (40, 30, 70, 90)),), "of another class"),
        (((CAR, (110, 30, 150, 90)),), "mostly elsewhere"),
        (((CAR, (40, 30, 48, 38)),), "too small a part"),
        (((CAR, (40, 30, 70, 90)), (CAR, (80, 30, 120, 90))), "two things that look like one"),
    ],
)
def test_other_masks_stay(objects: tuple[tuple[int, Box], ...], why: str) -> None:
    scene = Scene((CAR, CAR_PLACE))
    masks = scene.mended(*objects)
    for (_, place), mask in zip(objects, masks.values(), strict=True):
        assert iou(mask, scene.mask(place)) > 0.9, why


PERSON, WITH_A_WALL = (60, 40, 80, 100), (50, 20, 100, 104)


def test_what_holds_a_thing_and_a_piece_of_stuff_becomes_the_thing() -> None:
    scene = Scene((PEDESTRIAN, PERSON))
    masks = scene.mended((ROAD, WITH_A_WALL))
    assert iou(masks[1], scene.mask(PERSON)) > 0.95


@pytest.mark.parametrize(
    ("person", "why"),
    [
        ((60, 40, 64, 60), "a speck on it"),
        ((80, 30, 150, 110), "mostly beyond it"),
    ],
)
def test_what_moves_and_is_of_no_class_stays(person: Box, why: str) -> None:
    scene = Scene((PEDESTRIAN, person))
    assert iou(scene.mended((ROAD, WITH_A_WALL))[1], scene.mask(WITH_A_WALL)) > 0.95, why


def test_a_users_mask_stays() -> None:
    scene = Scene((CAR, CAR_PLACE))
    masks = scene.mended((CAR, (40, 30, 70, 90)), prompted=True)
    assert iou(masks[1], scene.mask((40, 30, 70, 90))) > 0.95


def test_an_unsure_prediction_mends_nothing() -> None:
    scene = Scene((CAR, CAR_PLACE), sure=0.4)
    masks = scene.mended((CAR, (40, 30, 70, 90)))
    assert iou(masks[1], scene.mask((40, 30, 70, 90))) > 0.95


def test_the_tracker_goes_on_with_the_mended_mask() -> None:
    scene = Scene((CAR, CAR_PLACE))
    (track_id,) = scene.mended((CAR, (40, 30, 70, 90)))
    stream, perception = scene.pipe.stream, scene.pipe.perception
    (track,) = stream.objects.active()
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with perception.arithmetic():
        seen = features.extract(perception, Frame(image, 2), "fused")
        found = stream.tracker.step(seen.image, [track.slot])
    assert track.track_id == track_id
    assert iou(found.masks[0].numpy() > 0, scene.mask(CAR_PLACE)) > 0.85


ON_ROAD = (10, 30, 38, 90)


def test_what_slid_off_to_stuff_is_let_go() -> None:
    assert Scene((CAR, CAR_PLACE)).held((CAR, CAR_PLACE), (CAR, ON_ROAD), moving=0.0) == 1
    scene = Scene((CAR, CAR_PLACE))
    assert scene.held((CAR, ON_ROAD), moving=0.0) == 0
    assert not scene.pipe.stream.objects.active()


def test_what_moves_or_was_asked_for_stays() -> None:
    assert Scene().held((CAR, ON_ROAD), moving=20.0) == 1
    assert Scene().held((CAR, ON_ROAD), moving=0.0, prompted=True) == 1


# -- wholes


def grown(part: Box, candidate: Box, likeness: float, *, prompted: bool = False) -> dict[int, int]:
    """Candidate -> id of the object whose part it completes, for one object and one candidate."""
    scene = Scene((CAR, CAR_PLACE))
    batch = scene.followed((CAR, part), prompted=prompted)
    past = torch.tensor([1.0, 0.0])
    scene.pipe.stream.objects.learn(batch.tracks[0], past)
    looks = torch.tensor([[likeness, (1 - likeness**2) ** 0.5]])
    masks = torch.from_numpy(scene.mask(candidate))[None]
    found = wholes(batch, masks, looks, scene.pipe.config)
    return {i: track.track_id for i, track in found.items()}


def test_a_candidate_that_holds_a_part_of_an_object_is_the_object() -> None:
    part = (40, 30, 60, 90)
    assert grown(part, CAR_PLACE, 0.95) == {0: 1}
    assert grown(part, CAR_PLACE, 0.5) == {}, "it looks otherwise"
    assert grown(part, (56, 30, 120, 90), 0.95) == {}, "most of the object is outside"
    assert grown(part, CAR_PLACE, 0.95, prompted=True) == {}, "users know what they meant"


def test_an_object_completes_one_candidate_at_most() -> None:
    scene = Scene((CAR, CAR_PLACE))
    batch = scene.followed((CAR, (40, 30, 60, 90)))
    scene.pipe.stream.objects.learn(batch.tracks[0], torch.tensor([1.0, 0.0]))
    looks = torch.tensor([[0.9, 0.19**0.5], [1.0, 0.0]])
    masks = torch.from_numpy(np.stack([scene.mask(CAR_PLACE)] * 2))
    assert list(wholes(batch, masks, looks, scene.pipe.config)) == [1], "the more similar one"
    assert wholes(batch.take([]), masks, looks, scene.pipe.config) == {}
    assert wholes(batch, masks[:0], looks[:0], scene.pipe.config) == {}


def picture(*boxes: Box) -> npt.NDArray[np.bool_]:
    """A mask of boxes."""
    mask = np.zeros(SIZE, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


GIRL, BOY, CRUMB = (90, 20, 130, 110), (10, 40, 40, 110), (43, 60, 46, 63)


def test_of_a_mask_in_two_the_larger_part_goes_on() -> None:
    rest = without_what_parted(picture(GIRL, BOY, CRUMB))
    assert rest is not None and np.array_equal(rest, picture(GIRL))


@pytest.mark.parametrize(
    ("boxes", "why"),
    [
        ((GIRL,), "whole"),
        ((), "empty"),
        (((10, 20, 60, 110), (66, 20, 130, 110)), "a pole stands before it"),
        ((GIRL, (10, 40, 14, 44)), "no thing"),
        (((10, 20, 60, 110), (60, 110, 120, 119)), "they touch at a corner"),
    ],
)
def test_other_masks_are_one(boxes: tuple[Box, ...], why: str) -> None:
    assert without_what_parted(picture(*boxes)) is None, why


@pytest.mark.parametrize("prompted", [False, True])
def test_what_parted_is_free_to_be_found(prompted: bool) -> None:
    """But for what a user asked for: that may be in parts."""
    scene = Scene((CAR, GIRL), (CAR, BOY))
    stream, perception = scene.pipe.stream, scene.pipe.perception
    batch = scene.followed((CAR, GIRL), prompted=prompted)
    both = torch.from_numpy(scene.mask(GIRL) | scene.mask(BOY))
    with perception.arithmetic():
        found = stream.tracker.from_masks(scene.seen.image, list(batch.tracked.slots), both[None])
        batch = part(perception, stream, scene.seen, ObjectBatch.of(batch.tracks, found))
    expected = both.numpy() if prompted else scene.mask(GIRL)
    assert iou(batch.masks[0].numpy() > 0, expected) > 0.95
