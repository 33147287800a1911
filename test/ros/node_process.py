"""The node as users start it: a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPLAINT = re.compile(
    r"^\[(?:WARN|ERROR|FATAL)\] \[[\d.]+\] \[[\w.]+\]: (.*?)(?=^\[[A-Z]+\] \[|\Z)", re.M | re.S
)
"""A message of the log that is more than information, of one line or several."""


class NodeProcess:
    """The process of a node `/vss` and what it has logged. arguments: after `--ros-args`."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join([str(ROOT), *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "scripts/vss_node", "--ros-args", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path} | dict(environment or {}),
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log += line

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def has_loaded(self, library: str) -> bool:
        """Whether a shared library of this name is in the process (Linux)."""
        return library in Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8")

    def complaints(self) -> list[str]:
        """The warnings and errors of the log, each in one line.

        Of a process that has ended without one it is all that it has written.
        """
        found = [" ".join(message.split()) for message in COMPLAINT.findall(self.log)]
        return found if found or self.running else [" ".join(self.log.split())]

    def end_by(self, number: signal.Signals, seconds: float) -> int:
        """Send a signal, twice as `ros2 launch` does; returns the exit code.

        Raises TimeoutExpired where the process goes on for so many seconds after the first.
        """
        start = time.monotonic()
        self._process.send_signal(number)
        time.sleep(0.02)
        self._process.send_signal(number)
        self._process.wait(seconds - (time.monotonic() - start))
        self._reader.join()
        return self._process.returncode

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
