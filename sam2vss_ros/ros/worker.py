"""One thread that does the heavy work, so that the executor never waits for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Calls `handle` with one item after the other, in a thread of its own.

    At most `size` items wait. When one more comes, `latest` discards the oldest that waits and
    otherwise the newcomer is refused, so that what is handled is an unbroken beginning of what
    came. `handle` must not raise.
    """

    def __init__(self, handle: Callable[[Item], None], size: int, latest: bool) -> None:
        self._handle = handle
        self._size = size
        self._latest = latest
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vss worker")
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Hand over an item; returns at once. False when an item (this or an older) was dropped."""
        with self._changed:
            full = len(self._waiting) >= self._size
            if full and not self._latest:
                return False
            if full:
                self._waiting.popleft()
            self._waiting.append(item)
            self._changed.notify()
            return not full

    def waiting(self) -> int:
        """How many items wait."""
        with self._changed:
            return len(self._waiting)

    def stop(self) -> int:
        """Let the item in hand be finished, end the thread, return how many items still waited."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
                item = self._waiting.popleft()
            self._handle(item)
