"""Tasks for workers that load no networks: one that is done, one that raises, one that kills."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SmallTask:
    """`what` is done to the worker: "kill" it, "raise" an error, or anything else, and return."""

    key: str
    what: str
    frames: int = 1
    tools: None = None

    @property
    def title(self) -> str:
        return self.key

    def run(self, tools: Any, tick: Callable[[], None]) -> str:
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "raise":
            raise ZeroDivisionError("of nobody's\nforesight")
        tick()
        return f"{self.key} done"
