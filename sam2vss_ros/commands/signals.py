"""Signals that end a command: each unwinds it, so that what it writes is finished."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DEADLY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end of a container or a service, and the end of a terminal."""

AGAIN = 0.1
"""Seconds until a signal is raised again whose exception was dropped."""

PATIENCE = 3.0
"""Seconds after the first signal in which further ones do not disturb the end."""


class Stopped(KeyboardInterrupt):
    """A deadly signal has come; `except Exception` does not catch it."""


class Signals:
    """What has come; `number` is that of the first deadly signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0
        self._again: threading.Timer | None = None

    def lost(self, error: BaseException | None) -> bool:
        """Whether C code has printed and dropped a Stopped, as some imports do; it comes again."""
        if not isinstance(error, Stopped):
            return False
        self._since = -PATIENCE
        self._again = threading.Timer(AGAIN, signal.raise_signal, [self.number])
        self._again.start()
        return True

    def end(self) -> None:
        """Nothing is raised any more: what was dropped may have ended the command all the same."""
        self._since = math.inf
        if self._again is not None:
            self._again.cancel()
            self._again.join()

    def take(self, number: int, _frame: FrameType | None) -> None:
        """Raise Stopped."""
        if self.number is not None and time.monotonic() - self._since < PATIENCE:
            return
        self.number, self._since = self.number or number, time.monotonic()
        raise Stopped


@contextmanager
def stopping() -> Iterator[Signals]:
    """Deadly signals raise Stopped inside the block, but those that whoever started the process
    has it ignore, as nohup does."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in DEADLY}
    taken = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, signals.take)
    printing, ignoring = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, e, trace: signals.lost(e) or printing(kind, e, trace)
    sys.unraisablehook = lambda told: signals.lost(told.exc_value) or ignoring(told)
    try:
        yield signals
    finally:
        signals.end()
        sys.excepthook, sys.unraisablehook = printing, ignoring
        for number, handler in taken.items():
            signal.signal(number, handler)
