"""A camera of the demo while it runs."""

from __future__ import annotations

import time

from sam2vss_ros.demo.cameras import Camera
from sam2vss_ros.demo.clips import Clip
from sam2vss_ros.demo.process import Event, Process
from sam2vss_ros.demo.report import Record


class Stream:
    """A camera, its processes, once they are started, and what they have reported.

    loading: frames in memory, and how many that will be. idle: seconds over which the node has said
    that it is unconfigured.
    """

    player: Process
    node: Process
    recorder: Process

    def __init__(self, camera: Camera, clip: Clip) -> None:
        self.camera, self.clip = camera, clip
        self.record = Record()
        self.loading = (0, 0)
        self.loaded = self.ready = False
        self.idle = 0.0
        self._state, self._state_since = "", 0.0

    def take(self, event: Event) -> None:
        """Note an event of the player or the recorder."""
        match event["event"]:
            case "loading":
                self.loading = event["frames"], event["of"]
            case "loaded":
                self.loaded = True
            case "state":
                self._take_state(event["label"])
            case "ready":
                self.ready = True
            case _:
                self.record.take(event)

    def _take_state(self, label: str) -> None:
        if label != self._state:
            self._state, self._state_since = label, time.monotonic()
        unconfigured = label == "unconfigured"
        self.idle = time.monotonic() - self._state_since if unconfigured else 0.0

    def named(self, what: str) -> str:
        """What belongs to the camera, told apart from that of the others."""
        return f"{what} of {self.camera.name}" if self.camera.name else what
