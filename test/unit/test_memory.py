"""The memory bank: bounded, ordered from new to old, one history per slot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam2vss_ros.sam2.memory import MemoryBank, Recall
from small_sam2 import untrained_small_sam2

SLOTS = 5
RECENT, POINTERS = 3, 7  # its num_maskmem - 1 and max_obj_ptrs_in_encoder - 1


@pytest.fixture
def bank() -> MemoryBank:
    return MemoryBank(untrained_small_sam2(64), SLOTS)


def memory(value: float) -> Tensor:
    return torch.full((32, 4, 4), value)


def pointer(value: float) -> Tensor:
    return torch.full((64,), value)


def start(bank: MemoryBank, slot: int, value: float) -> None:
    bank.start(*seen({slot: value}))


def write(bank: MemoryBank, values: dict[int, float]) -> None:
    """On a frame of their own."""
    bank.begin_frame()
    bank.write(*seen(values))


def recall_next(bank: MemoryBank, slots: list[int]) -> list[Recall]:
    """On the frame after."""
    bank.begin_frame()
    return bank.recall(slots)


def seen(values: dict[int, float]) -> tuple[Tensor, ...]:
    """Slots, memories, pointers and boxes with a value for each slot."""
    return (
        torch.tensor(list(values)),
        torch.stack([memory(v) for v in values.values()]),
        torch.stack([pointer(v) for v in values.values()]),
        torch.tensor([[0, 0, 4, 4]] * len(values)),
    )


def only(recalls: list[Recall]) -> Recall:
    assert len(recalls) == 1
    return recalls[0]


def memories(recall: Recall, row: int = 0) -> list[float]:
    """The value each memory of an object was written with."""
    assert (recall.memories[row] == recall.memories[row, :, :1, :1]).all()
    return recall.memories[row, :, 0, 0].tolist()


def test_a_new_object_remembers_its_conditioning_frame_alone(bank: MemoryBank) -> None:
    start(bank, 2, 100)
    recall = only(recall_next(bank, [2]))
    assert recall.slots.tolist() == [2]
    assert recall.memories.shape == (1, 1, 16, 32) and recall.pointers.shape == (1, 1, 64)
    assert memories(recall) == [100] and recall.pointers[0, :, 0].tolist() == [100]
    assert recall.memory_times.tolist() == [[RECENT]]
    assert recall.pointer_ages.tolist() == [[1]]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 8, 30])
def test_the_newest_come_first_and_the_oldest_are_forgotten(frames: int, bank: MemoryBank) -> None:
    start(bank, 0, 100)
    for t in range(1, frames + 1):
        write(bank, {0: t})
    recall = only(recall_next(bank, [0]))
    recent = [float(t) for t in range(frames, max(0, frames - RECENT), -1)]
    assert memories(recall) == [100, *recent]
    assert recall.memory_times.tolist() == [[RECENT, *range(len(recent))]]
    seen = [float(t) for t in range(frames, max(0, frames - POINTERS), -1)]
    assert recall.pointers[0, :, 0].tolist() == [100, *seen]
    # The conditioning frame was `frames` + 1 frames before the one being asked about.
    assert recall.pointer_ages[0].tolist() == [frames + 1, *range(1, len(seen) + 1)]


def test_a_memory_has_the_time_code_of_its_age_in_frames(bank: MemoryBank) -> None:
    """Two objects that take turns; what is older than the oldest code has the oldest."""
    start(bank, 0, 100)
    start(bank, 1, 200)
    for t in range(1, 9):
        write(bank, {t % 2: t})
    recall = only(recall_next(bank, [0, 1]))
    assert [memories(recall, row)[1:] for row in (0, 1)] == [[8, 6, 4], [7, 5, 3]]
    assert recall.memory_times.tolist() == [[RECENT, 0, 2, 2], [RECENT, 1, 2, 2]]


def test_slots_are_grouped_by_how_much_they_remember(bank: MemoryBank) -> None:
    for slot, age in ((0, 1), (1, 9), (2, 1), (3, 40), (4, 0)):
        start(bank, slot, 100 + slot)
        for t in range(age):
            write(bank, {slot: 10 * slot + t})
    groups = {tuple(sorted(r.slots.tolist())): r for r in bank.recall([3, 4, 1, 0, 2])}
    assert set(groups) == {(4,), (0, 2), (1, 3)}
    old = groups[1, 3]
    for row, slot in enumerate(old.slots.tolist()):
        age = {1: 9, 3: 40}[slot]
        last = 10 * slot + age - 1
        assert memories(old, row) == [100 + slot, last, last - 1, last - 2]
        assert old.pointer_ages[row, 0] == age + 1
    assert memories(groups[0, 2], groups[0, 2].slots.tolist().index(2)) == [102, 20]


def test_every_slot_has_its_own_history(bank: MemoryBank) -> None:
    for slot in range(SLOTS):
        start(bank, slot, 100 + slot)
    for t in range(20):
        write(bank, {4: 400 + t, 1: 50 + t})
    assert memories(only(bank.recall([1]))) == [101, 69, 68, 67]
    assert memories(only(bank.recall([4]))) == [104, 419, 418, 417]
    assert memories(only(bank.recall([0]))) == [100]


def test_a_slot_that_starts_again_remembers_nothing_of_before(bank: MemoryBank) -> None:
    start(bank, 3, 1)
    for t in range(10):
        write(bank, {3: 10 + t})
    start(bank, 3, 2)
    assert memories(only(bank.recall([3]))) == [2]
    write(bank, {3: 77})
    recall = only(bank.recall([3]))
    assert memories(recall) == [2, 77]
    assert recall.pointers[0, :, 0].tolist() == [2, 77]


def test_memory_is_bounded(bank: MemoryBank) -> None:
    """The figure is that of the shapes: 4 memories, boxes and times, 8 pointers, box and age."""
    per_slot = 4 * (4 * 32 * 4 * 4 + 8 * 64) + 8 * (4 * 4 + 4 + 4 + 1)
    assert bank.nbytes() == SLOTS * per_slot
    for slot in range(SLOTS):
        start(bank, slot, slot)
    for t in range(50):
        write(bank, dict.fromkeys(range(SLOTS), t))
    assert bank.nbytes() == SLOTS * per_slot


def test_nobody_to_recall(bank: MemoryBank) -> None:
    assert bank.recall([]) == []
