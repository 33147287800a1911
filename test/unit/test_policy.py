"""What is decided between a step of the tracker and its memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines import open_pipeline, sam2_tracker
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.policy import LEAST_IOU, resolve_overlaps, worth_remembering
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.training.procedural import make_clip
from sam2vss_ros.types import Frame, Prompt, SemanticFrame
from small_sam2 import SMALL_SAM2


def tracked(masks: torch.Tensor, ious: list[float], scores: list[float]) -> Tracked:
    count = len(masks)
    return Tracked(
        tuple(range(count)), masks, torch.tensor(ious), torch.tensor(scores), torch.zeros(count, 4)
    )


def random_masks(count: int, side: int = 24) -> torch.Tensor:
    """Smooth logits, so that masks overlap and have borders."""
    coarse = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(3)) * 6
    return F.interpolate(coarse, (side, side), mode="bilinear")[:, 0]


def resolved(masks: torch.Tensor) -> torch.Tensor:
    return resolve_overlaps(tracked(masks, [1.0] * len(masks), [5.0] * len(masks))).masks


def test_every_pixel_belongs_to_the_strongest() -> None:
    masks = random_masks(5)
    claimed = (masks > 0).sum(0)
    assert (claimed > 1).any()
    now = resolved(masks)
    assert ((now > 0).sum(0) == claimed.clamp(max=1)).all()
    winner = masks.argmax(0)
    assert (now.argmax(0)[claimed > 0] == winner[claimed > 0]).all()
    assert torch.equal(now.amax(0), masks.amax(0)), "the winner is as sure as before"
    assert torch.equal(now[:, claimed == 0], masks[:, claimed == 0]), "nothing to resolve there"
    assert torch.equal(resolved(now), now), "once is enough"


def test_equal_claims_go_to_one_of_them() -> None:
    now = resolved(torch.full((3, 4, 4), 2.0))
    assert ((now > 0).sum(0) == 1).all()


def test_one_object_is_left_alone() -> None:
    masks = random_masks(1)
    assert torch.equal(resolved(masks), masks)


def test_no_gap_between_neighbours_at_a_higher_resolution() -> None:
    """Where two masks meet, each pixel of the upsampled masks is of exactly one of them."""
    masks = torch.stack(
        [torch.linspace(9, -3, 8).expand(8, 8), torch.linspace(-3, 7, 8).expand(8, 8)]
    )
    upsampled = F.interpolate(resolved(masks)[None], (64, 64), mode="bilinear")[0]
    assert ((upsampled > 0).sum(0) == 1).all()
    clamped = torch.where(resolved(masks) > 0, masks, masks.clamp(max=-10.0))  # upstream's rule
    upsampled = F.interpolate(clamped[None], (64, 64), mode="bilinear")[0]
    assert ((upsampled > 0).sum(0) == 0).any(), "upstream's rule leaves one"


def test_what_is_worth_remembering() -> None:
    seen, nothing = torch.full((4, 4), 3.0), torch.full((4, 4), -10.0)
    batch = tracked(
        torch.stack([seen, seen, seen, nothing, seen]),
        [0.9, LEAST_IOU - 0.01, 0.9, 0.9, LEAST_IOU],
        [5.0, 5.0, -0.1, 5.0, 0.1],
    )
    assert worth_remembering(batch) == [0, 4]
    assert worth_remembering(batch.take([1, 2, 3])) == []


class Followed:
    """Two objects that a pipeline follows over a still image, one memory every second frame.

    iou: predicted IoU to pretend, by slot. overlap: the masks claim more than their own. written:
    the slots whose memory was written on the last frame.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = {"model": SMALL_SAM2, "device": "cpu", "discovery": "off", "max_objects": 2}
        config |= {"memory_interval": 2, "engine": "exact"}  # fast lets objects of a still rest
        self.pipe = open_pipeline(PipelineConfig.from_mapping(config))
        self.image = make_clip(11, 1, (96, 128), kind="street").frames[0]
        self.stamp = 0
        self.iou: dict[int, float] = {}
        self.overlap = False
        self.written: list[int] = []
        self._step, self._commit = self.pipe.stream.tracker.step, self.pipe.stream.tracker.commit
        monkeypatch.setattr(self.pipe.stream.tracker, "step", self._pretend)
        monkeypatch.setattr(self.pipe.stream.tracker, "commit", self._write)
        self.next()
        for x in (10, 50):
            mask = np.zeros((96, 128), bool)
            mask[50:90, x : x + 40] = True
            self.pipe.add_prompt(Prompt(mask=mask))
        self.next()
        self.slots = [t.slot for t in self.pipe.stream.objects.all()]

    def next(self) -> SemanticFrame:
        self.stamp += 1
        self.written = []
        return self.pipe.process(Frame(self.image, self.stamp))

    def _pretend(self, features: functional.ImageFeatures, slots: list[int], *flow: Any) -> Tracked:
        found = self._step(features, slots, *flow)
        if found is None:
            return None
        ious = [self.iou.get(slot, 0.9) for slot in found.slots]
        masks = found.masks + 1 if self.overlap else found.masks
        self.overlapped = bool(((masks > 0).sum(0) > 1).any())
        return dataclasses.replace(found, predicted_iou=torch.tensor(ious), masks=masks)

    def _write(self, features: functional.ImageFeatures, part: Tracked) -> None:
        assert ((part.masks > 0).sum(0) <= 1).all(), "overlaps are resolved before"
        self.written += part.slots
        self._commit(features, part)


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(monkeypatch)


def test_a_poor_mask_is_remembered_as_soon_as_it_is_good(followed: Followed) -> None:
    one, other = followed.slots
    followed.iou[one] = 0.4
    for expected in ([other], [], [other], []):
        result = followed.next()
        assert followed.written == expected
        assert all(o.area for o in result.objects), "it is shown all the same"
    followed.next()
    followed.iou[one] = 0.9
    followed.next()
    assert followed.written == [one]
    followed.next()
    assert sorted(followed.written) == sorted([one, other])


def test_a_drifting_object_keeps_its_older_memories(followed: Followed) -> None:
    one = followed.slots[0]
    bank = sam2_tracker(followed.pipe).bank
    before = bank.recall([one])[0]
    followed.iou[one] = 0.4
    for _ in range(4):
        followed.next()
    after = bank.recall([one])[0]
    assert torch.equal(before.memories, after.memories)
    assert torch.equal(before.pointers, after.pointers)


def test_overlaps_are_resolved_for_output_and_memory_alike(followed: Followed) -> None:
    followed.overlap = True
    for _ in range(4):
        result = followed.next()
        assert followed.overlapped, "the test needs something to resolve"
        areas = [o.area for o in result.objects]
        assert min(areas) > 0 and sum(areas) == (result.instance_image > 0).sum()
