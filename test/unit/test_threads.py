"""How many CPU threads the libraries take."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sam2vss_ros import threads


@pytest.fixture
def before() -> Iterator[int]:
    """The number of torch's threads, which is theirs again afterwards, as numpy's is."""
    count = torch.get_num_threads()
    with threadpool_limits():
        yield count
    torch.set_num_threads(count)


def of_numpy() -> set[int]:
    """The numbers of threads of its OpenBLAS, and of scipy's where another test has loaded it."""
    np.linalg.solve(np.eye(8), np.ones(8))
    pools = threadpool_info()
    return {p["num_threads"] for p in pools if p.get("threading_layer") == "pthreads"}


def test_numpy_takes_one_thread(before: int) -> None:
    with threadpool_limits(2):
        assert of_numpy() == {2}
        threads.use(0)
        assert of_numpy() == {1}
        assert torch.get_num_threads() == 2


def test_torch_takes_as_many_as_it_is_told(before: int) -> None:
    for count in (2, 1):
        threads.use(count)
        assert torch.get_num_threads() == count


def test_processors_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {3, 5, 6})
    assert threads.processors() == 3
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert threads.processors() == 1
