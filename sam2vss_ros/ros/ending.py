"""How the process of the node ends: on SIGINT or SIGTERM, soon, whatever it is doing.

A thread waits for the signals, so that neither imports nor the loading of networks nor a frame in
hand keep the process from hearing them. Nothing is imported here that takes time.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

DEADLY = (signal.SIGINT, signal.SIGTERM)
GRACE = 0.5
"""Seconds from the first signal in which the node may finish its frame and say goodbye."""

FAST_DDS_LOCK = re.compile(r"(/dev/shm/fastdds_[0-9a-f]+)_el")
"""What the process of a participant holds open for as long as its shared memory is in use."""


class Ending:
    """Ends the process with exit code 0; to be made first, in the main thread.

    `shutdown` is what makes the main thread return by itself, once there is something to shut down;
    before, and where it takes longer than GRACE, the process ends at once.
    """

    def __init__(self) -> None:
        self.shutdown: Callable[[], object] | None = None
        # Threads that are made later block them, too. Under `ros2 launch` Ctrl-C comes twice:
        # further signals stay blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, DEADLY)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    def _wait(self) -> None:
        signal.sigwait(DEADLY)
        if self.shutdown is None:
            _leave(0)
        last = threading.Timer(GRACE, _leave, [0])
        last.daemon = True
        last.start()
        self.shutdown()


def _leave(code: int) -> NoReturn:
    """End the process at once, and nothing of it stays.

    Fast DDS takes its shared memory (35 MB of RAM) back when a participant is destroyed, for which
    there may not have been the time.
    """
    try:
        for descriptor in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # closed, or given back, in the meantime
                path = os.readlink(f"/proc/self/fd/{descriptor}")
                if lock := FAST_DDS_LOCK.fullmatch(path):
                    os.unlink(lock[1])
                    os.unlink(path)
    finally:
        os._exit(code)


def main() -> NoReturn:
    """Run the node until SIGINT or SIGTERM; both end it with exit code 0. What the command line
    says wrong ends it with 2."""
    ending = Ending()
    from sam2vss_ros.ros.node import run  # takes seconds

    # The interpreter has nothing left to do that is worth seconds on a busy machine.
    _leave(run(ending))
