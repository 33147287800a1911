"""Workers on a Ray cluster, of this machine alone or of many."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from sam2vss_ros import __version__
from sam2vss_ros.errors import InputError, one_line, reason_of
from sam2vss_ros.fleet.run import Progress
from sam2vss_ros.fleet.tasks import Failed, Task, Unfit, Worker

log = logging.getLogger(__name__)

OBJECT_STORE = 128 << 20
"""Bytes of shared memory that Ray takes on this machine: results of tasks are small."""

PATIENCE = 5.0
"""Seconds until a cluster's address has answered."""

POLL = 0.5
"""Seconds from one look at the workers to the next."""


class RayWorkers:
    """Executor on a Ray cluster. Made by `open_ray`, to use in a `with` block.

    address: of a cluster, as ray.init takes it; empty: Ray is started on this machine, and reached
    from nowhere else. workers: 0: as many as fit. cpus, gpus: that each reserves; gpus None: one
    each where the cluster has any. retries: how often a task is repeated whose worker died or
    raised what nobody foresaw.

    Raises InputError where the cluster cannot be reached, or no worker fits.
    """

    def __init__(
        self, address: str, workers: int, cpus: int, gpus: float | None, retries: int
    ) -> None:
        self._address, self._workers, self._cpus, self._gpus = address, workers, cpus, gpus
        self._retries = retries
        self._attempts: Counter[str] = Counter()
        self._deaths_at_start = 0

    def __enter__(self) -> RayWorkers:
        before = signal.getsignal(signal.SIGTERM)
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": True}
        try:
            if self._address:
                _knock(self._address)
                ray.init(self._address, **quiet)
            else:
                ray.init(
                    "local",
                    num_cpus=self._workers * self._cpus or None,
                    object_store_memory=OBJECT_STORE,
                    include_dashboard=False,
                    **quiet,
                )
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"the cluster at {self._address}" if self._address else "a cluster of its own"
            raise InputError(f"ray: {where} cannot be used: {one_line(error)}") from error
        finally:
            _restore(before)
        try:
            self._fit()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ray.shutdown()

    def _fit(self) -> None:
        """Settle how many workers there are."""
        there = ray.cluster_resources()
        cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
        self._gpus = float(gpus > 0) if self._gpus is None else self._gpus
        fitting = int(min(cpus // self._cpus, gpus / self._gpus if self._gpus else cpus))
        if fitting < 1:
            raise InputError(
                f"ray: no worker fits: it takes {self._cpus} CPUs and {self._gpus:g} GPUs, the "
                f"cluster has {cpus:g} and {gpus:g} (--threads, --gpus-per-worker)"
            )
        if self._workers > fitting:
            log.warning("ray: %d workers fit; the others begin where place is made", fitting)
        self._workers = self._workers or fitting

    def results(self, waiting: deque[Task], progress: Progress) -> Iterator[tuple[Task, Any]]:
        """See Executor. A task whose worker or node dies goes to another worker, from its start."""
        actor = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_concurrency=2)(Worker)
        busy: dict[Any, tuple[Any, Task | None]] = {}
        idle: list[Any] = []

        try:
            while waiting or any(task for _, task in busy.values()):
                while waiting and idle:
                    worker, next_ = idle.pop(), waiting.popleft()
                    busy[worker.do.remote(next_)] = worker, next_
                starting = sum(task is None for _, task in busy.values())
                for _ in range(min(len(waiting) - starting, self._workers - len(busy))):
                    worker = actor.remote()
                    busy[worker.status.remote()] = worker, None
                ended, _ = ray.wait(list(busy), timeout=POLL)
                for reference in ended:
                    worker, task = busy.pop(reference)
                    try:
                        answer = ray.get(reference)
                    except RayActorError as error:
                        ray.kill(worker)  # it may only be out of reach
                        yield from self._lost(task, waiting, error)
                    except (RayTaskError, RayError) as error:
                        idle.append(worker)
                        yield from self._lost(task, waiting, error)
                    else:
                        idle.append(worker)
                        if task is None:
                            _check_version(answer)
                        elif isinstance(answer, Unfit):
                            raise InputError(f"ray: {answer.host}: {answer.reason}")
                        else:
                            yield task, answer
                progress(_frames([worker for worker, task in busy.values() if task]))
        finally:
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                ray.kill(worker)

    def _lost(
        self, task: Task | None, waiting: deque[Task], error: Exception
    ) -> Iterator[tuple[Task, Any]]:
        """A worker ended in the midst of a task, or before its first: it is repeated, or fails."""
        reason = _reason(error)
        if task is None:
            self._deaths_at_start += 1
            if self._deaths_at_start > self._workers * (1 + self._retries):
                raise InputError(f"ray: workers die as they start: {one_line(error)}")
            return
        self._attempts[task.key] += 1
        if self._attempts[task.key] > self._retries:
            yield task, Failed(f"tried {self._attempts[task.key]} times: {reason}")
        else:
            log.warning("%s: begun again: %s", task.title, reason)
            waiting.appendleft(task)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens; Ray itself tries for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), PATIENCE).close()


def _restore(handler: Any) -> None:
    """Ray takes SIGTERM for itself; here it is the command's."""
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:  # in another thread than the main one nobody has taken it
        return


def _frames(workers: list[Any]) -> int:
    """Frames that these have done of their tasks; of those that do not answer at once, none."""
    asked = [worker.status.remote() for worker in workers]
    until = time.monotonic() + POLL
    frames = 0
    for reference in asked:
        try:
            frames += ray.get(reference, timeout=max(0.0, until - time.monotonic())).frames
        except (GetTimeoutError, RayActorError):
            log.debug("a worker does not answer")
    return frames


def _check_version(status: Any) -> None:
    if status.version != __version__:
        raise InputError(
            f"ray: {status.host} has sam2vss_ros {status.version}, this machine {__version__}: "
            "install the same everywhere"
        )


def _reason(error: Exception) -> str:
    """Why a worker was lost, in a line."""
    if isinstance(error, RayActorError):
        return "its worker died"
    if isinstance(error, RayTaskError):
        return one_line(f"{type(error.cause).__name__}: {error.cause}")
    return reason_of(error)
