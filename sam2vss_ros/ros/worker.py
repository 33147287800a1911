"""The one thread that looks at images: it serves the camera that was served longest ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sam2vss_ros.perception import Perception
from sam2vss_ros.ros.mailbox import Arrival, Mailbox
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame

HEARTBEAT = 1.0
"""Seconds at most until it is seen that a camera has fallen silent."""


class Served(Protocol):
    """A camera, as the worker knows it. Nothing here raises."""

    mailbox: Mailbox

    def ready(self, arrival: Arrival, now: float) -> bool:
        """Whether the image has all it waits for, or has waited long enough."""

    def patience(self, arrival: Arrival, now: float) -> float:
        """Seconds until an image that is not ready has waited long enough."""

    def read(self, arrival: Arrival) -> Frame | None:
        """The frame of a message, None where there is none to be processed."""

    def wants_features(self) -> bool:
        """Whether `answer` has a use for image features."""

    def answer(
        self, arrival: Arrival, frame: Frame, image: Features | None, elsewhere: float
    ) -> None:
        """Process a frame and publish what comes out; as `VssPipeline.process`."""

    def rest(self, now: float) -> None:
        """Nothing waits: time to give back what a silent camera holds."""


class _Turn(NamedTuple):
    """A camera and the image that is to be processed."""

    channel: Served
    arrival: Arrival


class Worker:
    """Serves cameras in a thread of its own, so that the executor never waits for it.

    A camera that has no image, or whose image waits for something, is passed over. batch: where
    images of several cameras wait, SAM 2's image encoder takes them together; worth it on a GPU.
    """

    def __init__(self, perception: Perception, channels: Sequence[Served], batch: bool) -> None:
        self._perception = perception
        self._order = list(channels)  # the one served longest ago comes first
        self._elsewhere = {id(channel): 0.0 for channel in channels}
        self._batch = batch
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vss worker")
        self._thread.start()

    def put(self, channel: Served, arrival: Arrival) -> bool:
        """Hand over an image; returns at once. As `Mailbox.put`."""
        with self._changed:
            kept = channel.mailbox.put(arrival)
            self._changed.notify()
            return kept

    def wake(self) -> None:
        """What an image waits for may have come."""
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """Finish the images in hand and end the thread; what waits stays in its mailbox."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        # Nothing of an image is held while the next one is waited for.
        while self._serve(self._wait()):
            pass

    def _serve(self, turns: Sequence[_Turn]) -> bool:
        """Process the images; False where there are none."""
        frames = [(turn, frame) for turn in turns if (frame := turn.channel.read(turn.arrival))]
        features = self._encode(frames)
        for (turn, frame), image in zip(frames, features, strict=True):
            elsewhere = self._elsewhere[id(turn.channel)]
            start = time.monotonic()
            turn.channel.answer(turn.arrival, frame, image, elsewhere)
            self._note(turn.channel, start, time.monotonic())
        return bool(turns)

    def _wait(self) -> list[_Turn]:
        """The next images, one of each camera at most; none once the worker is stopped."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                waiting = [(c, first) for c in self._order if (first := c.mailbox.first())]
                ready = [c for c, first in waiting if c.ready(first, now)]
                if ready:
                    chosen = ready if self._batch else ready[:1]
                    self._order = [c for c in self._order if c not in chosen] + chosen
                    return [_Turn(c, c.mailbox.take()) for c in chosen]
                for channel in self._order:
                    if channel.mailbox.first() is None:
                        channel.rest(now)
                    else:
                        channel.mailbox.hold()
                patience = [c.patience(first, now) for c, first in waiting]
                self._changed.wait(min([HEARTBEAT, *patience]))
            in_hand = [c for c in self._order if c.mailbox.holds]
            return [_Turn(c, c.mailbox.take()) for c in in_hand]

    def _encode(self, frames: Sequence[tuple[_Turn, Frame]]) -> list[Features | None]:
        """The image features of several cameras in one batch; None where each makes its own."""
        together = [i for i, (turn, _) in enumerate(frames) if turn.channel.wants_features()]
        features: list[Features | None] = [None] * len(frames)
        if len(together) > 1:
            with self._perception.arithmetic():
                found = self._perception.encode_images([frames[i][1].image for i in together])
            for i, image in zip(together, found, strict=True):
                features[i] = image
        return features

    def _note(self, served: Served, start: float, end: float) -> None:
        """The time of one camera is what the others have waited for."""
        with self._changed:
            self._elsewhere[id(served)] = 0.0
            for channel in self._order:
                since = channel.mailbox.since
                if channel is not served and since is not None:
                    self._elsewhere[id(channel)] += end - max(start, since)
