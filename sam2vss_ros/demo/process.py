"""Processes that report events, one line of JSON each, to the process that has started them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Event = dict[str, Any]

DEADLY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process."""


def emit(kind: str, **data: Any) -> None:
    """Report an event to the parent process."""
    print(json.dumps({"event": kind} | data), flush=True)


def wait_for_go() -> bool:
    """Wait for the parent's `Process.go`; False if the parent has ended instead."""
    return bool(sys.stdin.readline())


class ProcessEndedError(RuntimeError):
    """A process ended that should not have; the message has the last lines of its log."""


class Process:
    """A child whose events go, in a thread of their own, to `on_event`; the rest to a log file.

    It runs in a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which
    ends its children in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        on_event: Callable[[Event], None],
    ) -> None:
        self.name = name
        self._log = log
        log.write_bytes(b"")
        with log.open("ab") as file:  # appending, as the child and the listener both write
            self._child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, args=(on_event,), name=name)
        self._listener.start()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    def check(self) -> None:
        """Raises ProcessEndedError if the process has ended with an error."""
        if self._child.poll():
            raise ProcessEndedError(
                f"{self.name} ended with {self._child.returncode}\n{self.log_end()}"
            )

    def go(self) -> None:
        """Let a process go on that waits in `wait_for_go`."""
        assert self._child.stdin is not None
        self._child.stdin.write("go\n")
        self._child.stdin.flush()

    def resident_mb(self) -> float:
        """Memory of the process that is in RAM, in MB; 0 once it has ended (Linux)."""
        try:
            status = Path(f"/proc/{self._child.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0.0
        lines = (line.split() for line in status.splitlines())
        return next((int(line[1]) * 1024 / 1e6 for line in lines if line[0] == "VmRSS:"), 0.0)

    def log_end(self, lines: int = 15) -> str:
        """The last lines that the process has written, with the place of the whole."""
        text = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join([*text, f"(the whole log: {self._log})"])

    def stop(self, seconds: float = 10.0) -> None:
        """Ask the process to end and wait for it; kill it after `seconds`."""
        if self.running:
            self._child.send_signal(signal.SIGINT)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._listener.join()
        assert self._child.stdin is not None
        self._child.stdin.close()

    def _listen(self, on_event: Callable[[Event], None]) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines, self._log.open("a", encoding="utf-8") as log:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if isinstance(event, dict) and "event" in event:
                    on_event(event)
                else:  # ordinary output
                    log.write(line)
                    log.flush()


def python_module(module: str, *arguments: object) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Deadly signals take effect at the end of the block, so that no child goes unnoticed."""
    came: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: came.append(number)) for s in DEADLY}
    try:
        yield
    finally:
        for deadly, handler in handlers.items():
            signal.signal(deadly, handler)
        if came:
            signal.raise_signal(came[0])
