"""The worker thread: what it drops, in which order it works, how it ends."""

from __future__ import annotations

import threading

import pytest

from sam2vss_ros.ros.worker import Worker


class Gate:
    """Handles items one at a time, each when the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.handled: list[int] = []

    def __call__(self, item: int) -> None:
        self.begun.release()
        assert self.go.acquire(timeout=10)
        self.handled.append(item)

    def release(self, items: int) -> None:
        """Let `items` be handled, and wait until the next one is in hand."""
        for _ in range(items):
            self.go.release()
            assert self.begun.acquire(timeout=10)


@pytest.mark.parametrize(
    ("size", "latest", "put", "handled"),
    [
        (1, True, [True, False, False, False], [0, 4]),
        (3, False, [True, True, True, False], [0, 1, 2, 3]),
    ],
)
def test_overload(size: int, latest: bool, put: list[bool], handled: list[int]) -> None:
    gate = Gate()
    worker = Worker(gate, size, latest)
    assert worker.put(0)
    assert gate.begun.acquire(timeout=10)
    assert [worker.put(i) for i in (1, 2, 3, 4)] == put
    gate.release(len(handled) - 1)
    gate.go.release()
    assert worker.stop() == 0
    assert gate.handled == handled


def test_stop_finishes_the_item_in_hand_and_leaves_the_others() -> None:
    gate = Gate()
    worker = Worker(gate, 5, latest=False)
    for i in range(4):
        worker.put(i)
    assert gate.begun.acquire(timeout=10)
    threading.Timer(0.05, gate.go.release).start()
    assert worker.stop() == 3
    assert gate.handled == [0]
