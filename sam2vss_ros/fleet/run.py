"""All tasks of a command, here or on workers; what is done is kept and not done again."""

from __future__ import annotations

import hashlib
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from sam2vss_ros.errors import InputError
from sam2vss_ros.fleet.tasks import Failed, Task, Unfit, Worker
from sam2vss_ros.io.outputs import write_bytes

Progress = Callable[[int], None]
"""Told how many frames of the tasks that are under way are done, over all workers."""


class Executor(Protocol):
    """Whoever does tasks."""

    def results(self, waiting: deque[Task], progress: Progress) -> Iterator[tuple[Task, Any]]:
        """Each task with its result, in whatever order they end; `waiting` may grow meanwhile."""


class Here:
    """One worker, in this process."""

    def results(self, waiting: deque[Task], progress: Progress) -> Iterator[tuple[Task, Any]]:
        """See Executor."""
        worker = _Telling(progress)
        try:
            while waiting:
                task = waiting.popleft()
                yield task, worker.do(task)
        finally:
            worker.close()


class _Telling(Worker):
    """A worker that tells of every frame."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def _tick(self) -> None:
        super()._tick()
        self._progress(self._frames)


class Results:
    """Results of tasks in the files of a folder, by their keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"work: {folder} cannot be written: {error.strerror}") from error

    def __contains__(self, task: Task) -> bool:
        return self._file(task).is_file()

    def keep(self, task: Task, result: Any) -> None:
        """Write a result; it is there whole, or not at all."""
        write_bytes(self._file(task), pickle.dumps(result))

    def load(self, task: Task) -> Any:
        """The result that was kept."""
        return pickle.loads(self._file(task).read_bytes())

    def forget(self, task: Task) -> None:
        """Have a task done again."""
        self._file(task).unlink(missing_ok=True)

    def _file(self, task: Task) -> Path:
        return self._folder / f"{task.key}.done"


def run_tasks(
    tasks: Sequence[Task],
    executor: Executor,
    results: Results,
    title: str,
    after: Callable[[Task], Sequence[Task]] = lambda _: (),
) -> dict[str, str]:
    """Do all tasks whose results are not there yet, under one progress bar; results are kept.

    `after` is asked for the tasks that become possible by one that has ended. Returns why tasks
    failed, by their titles. Raises InputError where a worker cannot load what tasks need.
    """
    failures: dict[str, str] = {}
    waiting: deque[Task] = deque()
    offered: set[str] = set()

    def offer(task: Task, urgent: bool = False) -> int:
        """Have a task done, or take it as done; frames that were done before."""
        if task.key in offered:
            return 0
        offered.add(task.key)
        if task not in results:
            (waiting.appendleft if urgent else waiting.append)(task)
            return 0
        return task.frames + sum(offer(next_, urgent=True) for next_ in after(task))

    total = sum(task.frames for task in tasks)
    done = sum(offer(task) for task in tasks)
    with tqdm(total=total, initial=done, unit="frame", desc=title, disable=not waiting) as bar:

        def progress(under_way: int) -> None:
            bar.update(max(0, min(done + under_way, total) - bar.n))

        for task, result in executor.results(waiting, progress):
            if isinstance(result, Unfit):  # so it would be with all other tasks
                raise InputError(result.reason)
            done += task.frames
            progress(0)
            if isinstance(result, Failed):
                failures[task.title] = result.reason
                continue
            results.keep(task, result)
            for next_ in after(task):
                offer(next_, urgent=True)
    return failures


def key_of(facts: Mapping[str, object]) -> str:
    """A name for what is made by these facts, and by no others."""
    text = repr(sorted((name, repr(value)) for name, value in facts.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
