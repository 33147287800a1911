"""One thing is done while another is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Aside:
    """A thread for what is done aside; it begins with the first task."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "aside")

    @contextmanager
    def doing(self, task: Callable[[], T]) -> Iterator[Callable[[], T]]:
        """While the task is done; what is yielded waits for what it returns, or raises.

        At the end of the block the task has ended in any case.
        """
        done = self._pool.submit(task)
        try:
            yield done.result
        finally:
            wait([done])

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
