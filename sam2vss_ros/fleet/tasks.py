"""A task, what it needs, and the worker that does one task after the other."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from sam2vss_ros import __version__
from sam2vss_ros.errors import InputError

Tick = Callable[[], None]
"""Called after every frame."""


class Tools(Protocol):
    """What takes long to load, such as a pipeline. Those that are equal need to be loaded once."""

    def open(self) -> AbstractContextManager[Any]:
        """Load it. Raises InputError where that cannot be."""


class Task(Protocol):
    """A piece of work that can be sent to another machine, and done twice without harm.

    key: a name for its result that no other work has. frames: how much of the progress bar it is.
    tools: what it needs, if anything.
    """

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def frames(self) -> int: ...

    @property
    def tools(self) -> Tools | None: ...

    def run(self, tools: Any, tick: Tick) -> Any:
        """Do it; the result can be pickled. Raises InputError where it cannot be done at all."""


@dataclass(frozen=True)
class Failed:
    """The result of a task that cannot be done, and why."""

    reason: str


@dataclass(frozen=True)
class Unfit:
    """The answer of a worker on `host` that cannot load what its task needs."""

    host: str
    reason: str


@dataclass(frozen=True)
class Status:
    """Where a worker is, and how many frames of its task are done."""

    host: str
    pid: int
    version: str
    frames: int


class Worker:
    """Does tasks, and keeps what they need as long as they need the same."""

    def __init__(self) -> None:
        self._needed: Tools | None = None
        self._opened: Any = None
        self._open = ExitStack()
        self._frames = 0

    def do(self, task: Task) -> Any:
        """The result of a task, Failed where the task says that it cannot be done, or Unfit."""
        self._frames = 0
        try:
            if task.tools is not None and task.tools != self._needed:
                self.close()
                self._opened = self._open.enter_context(task.tools.open())
                self._needed = task.tools
        except InputError as error:
            return Unfit(platform.node(), str(error))
        try:
            return task.run(self._opened, self._tick)
        except InputError as error:
            return Failed(str(error))

    def status(self) -> Status:
        """May be asked while a task is being done."""
        return Status(platform.node(), os.getpid(), __version__, self._frames)

    def close(self) -> None:
        """Give back what was loaded."""
        self._needed = self._opened = None
        self._open.close()

    def _tick(self) -> None:
        self._frames += 1
