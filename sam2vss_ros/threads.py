"""How many CPU threads the libraries take."""

from __future__ import annotations

import os

import torch
from threadpoolctl import ThreadpoolController


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def use(count: int) -> None:
    """Let networks run on so many threads, 0: as many as torch thinks fit, and numpy on one.

    After every product OpenBLAS's own threads spin for 30 ms, here for 8 x 8 equations: they took
    half of what the process used of the processors. (Where it shares torch's OpenMP threads, as
    torch's own does on ARM, it is left alone.)
    """
    if count:
        torch.set_num_threads(count)
    ThreadpoolController().select(threading_layer="pthreads").limit(limits=1)
