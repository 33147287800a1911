"""How the process of the node ends: on SIGINT or SIGTERM, soon, whatever it is doing.

A thread waits for the signals, so that neither imports nor the loading of networks nor a frame in
hand keep the process from hearing them. Nothing is imported here that takes time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

DEADLY = (signal.SIGINT, signal.SIGTERM)
GRACE = 0.5
"""Seconds from the first signal in which the node may finish its frame and say goodbye."""


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
            os._exit(0)
        last = threading.Timer(GRACE, os._exit, [0])
        last.daemon = True
        last.start()
        self.shutdown()


def main() -> NoReturn:
    """Run the node until SIGINT or SIGTERM; both end it with exit code 0. What the command line
    says wrong ends it with 2."""
    ending = Ending()
    from sam2vss_ros.ros.node import run  # takes seconds

    # The interpreter has nothing left to do that is worth seconds on a busy machine.
    os._exit(run(ending))
