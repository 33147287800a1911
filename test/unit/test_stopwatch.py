"""Time by stage."""

from __future__ import annotations

import time

import pytest
import torch

from sam2vss_ros.stream.stopwatch import Clock, Stopwatch


def test_laps_go_by_name_from_the_end_of_the_last() -> None:
    times = iter([10.0, 10.5, 12.0, 12.25])
    watch = Stopwatch(Clock(torch.device("cpu"), lambda: next(times)))
    for name in ("encode", "track", "fuse"):
        watch.lap(name)
    laps = watch.milliseconds()
    assert laps == {"encode": 500.0, "track": 1500.0, "fuse": 250.0}
    assert list(laps) == ["encode", "track", "fuse"], "in the order of the stages"
    assert watch.milliseconds() == laps, "reading takes no time"


def test_a_watch_without_laps() -> None:
    assert Stopwatch(Clock(torch.device("cpu"))).milliseconds() == {}


def test_a_cpu_is_timed_by_the_clock_on_the_wall() -> None:
    watch = Stopwatch(Clock(torch.device("cpu")))
    time.sleep(0.02)
    watch.lap("sleep")
    assert watch.milliseconds()["sleep"] >= 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, whose queue it times")
def test_a_gpu_is_timed_by_what_it_does_not_by_what_it_is_told() -> None:
    device = torch.device("cuda")
    matrix = torch.rand(4096, 4096, device=device)
    matrix @ matrix  # the first product also loads the library
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    watch = Stopwatch(Clock(device))
    for _ in range(50):
        matrix @ matrix
    watch.lap("products")
    told = (time.perf_counter() - start) * 1e3
    laps = watch.milliseconds()
    assert torch.cuda.current_stream(device).query(), "reading waits for the GPU"
    done = (time.perf_counter() - start) * 1e3
    assert told < laps["products"] <= done
