"""The threads that look at images: they serve the camera that was served longest ago."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from sam2vss_ros import heap
from sam2vss_ros.perception import Perception
from sam2vss_ros.ros.mailbox import Arrival, Mailbox
from sam2vss_ros.ros.space import PairedDepth
from sam2vss_ros.stages.features import Looked, Predicted
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame

HEARTBEAT = 1.0
"""Seconds at most until it is seen that a camera has fallen silent."""


HURRIED = 30.0
"""Seconds after an image was dropped for which time is short."""


class Taken(NamedTuple):
    """An image in hand, and the depth that belongs to it."""

    arrival: Arrival
    frame: Frame
    depth: PairedDepth | None = None


class Served(Protocol):
    """A camera, as the worker knows it. Nothing here raises but `look`."""

    mailbox: Mailbox

    def ready(self, arrival: Arrival, now: float) -> bool:
        """Whether the image has all it waits for, or has waited long enough."""

    def patience(self, arrival: Arrival, now: float) -> float:
        """Seconds until an image that is not ready has waited long enough."""

    def read(self, arrival: Arrival) -> Taken | None:
        """The frame of a message, None where there is none to be processed."""

    def wants_features(self, taken: Taken) -> bool:
        """Whether `look` has a use for the features of an image, the next one that it is given."""

    def look(self, taken: Taken, image: Features | None) -> Predicted | None:
        """As `VssPipeline.look`."""

    def answer(self, taken: Taken, looked: Looked | None, elsewhere: float) -> None:
        """Process a frame and publish what comes out; as `VssPipeline.process`."""

    def rest(self, now: float) -> None:
        """Nothing waits: time to give back what a silent camera holds."""


class _Turn(NamedTuple):
    """A camera and the image that is to be processed, which has waited since then."""

    channel: Served
    arrival: Arrival
    since: float


class _Image(NamedTuple):
    """One that was read. found: what a look ahead will say of it, None where nobody looks ahead."""

    channel: Served
    taken: Taken
    found: Future[Predicted | None] | None


class Worker:
    """Serves cameras in threads of its own, so that the executor never waits for it.

    A camera that has no image, or whose image waits for something, is passed over. batch: where
    images of several cameras wait, the image encoder takes them together; worth it on a GPU.

    ahead: while one image is being answered, a second thread takes the next one and runs the
    networks on it. It takes it as late as it may (the newest then), going by how long its look and
    the answer took the last time.
    """

    def __init__(
        self,
        perception: Perception,
        channels: Sequence[Served],
        batch: bool = False,
        ahead: bool = False,
    ) -> None:
        self._perception = perception
        self._order = list(channels)  # the one served longest ago comes first
        self._elsewhere = {id(channel): 0.0 for channel in channels}
        self._batch = batch
        self._changed = threading.Condition()
        self._stopped = False
        self._last_drop = -math.inf
        self._reading = False  # whether the look ahead has taken images and not handed them over
        self._coming: list[_Image] | None = None  # what it has handed over
        self._ahead: dict[int, float] = {}  # since when those have waited, by camera
        self._begun: float | None = None  # when the answer in hand was begun
        self._looked_ahead = False  # at what is in hand
        self._answer_seconds: dict[bool, float] = {}  # by whether somebody had looked ahead
        self._look_seconds = math.inf
        targets = [self._answer, self._look_ahead] if ahead else [self._answer]
        self._threads = [threading.Thread(target=t, name=f"vss{t.__name__}") for t in targets]
        for thread in self._threads:
            thread.start()

    def put(self, channel: Served, arrival: Arrival) -> bool:
        """Hand over an image; returns at once. As `Mailbox.put`."""
        with self._changed:
            kept = channel.mailbox.put(arrival)
            if not kept:
                self._last_drop = time.monotonic()
            self._changed.notify_all()
            return kept

    @property
    def hurried(self) -> bool:
        """Whether images of a camera were dropped lately."""
        return time.monotonic() - self._last_drop < HURRIED

    def wake(self) -> None:
        """What an image waits for may have come."""
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Finish the images in hand and end the threads; what waits stays in its mailbox."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # The thread that answers.

    def _answer(self) -> None:
        # Nothing of an image is held while the next one is waited for.
        while self._serve(self._wait()):
            pass
        heap.give_back()

    def _serve(self, images: Sequence[_Image] | None) -> bool:
        """Process the images; False where there are no more to come."""
        for channel, taken, found in images or ():
            with self._changed:
                start = self._begun = time.monotonic()
                self._looked_ahead = found is not None
                elsewhere = self._elsewhere[id(channel)]
                self._changed.notify_all()
            channel.answer(taken, None if found is None else found.result, elsewhere)
            self._note(channel, start, time.monotonic())
        return images is not None

    def _wait(self) -> list[_Image] | None:
        """The next images, one of each camera at most; None once the worker is stopped."""
        with self._changed:
            while self._coming is None:
                turns = [] if self._reading else self._choose()
                if turns:
                    break
                if self._stopped and not self._reading:
                    return None
                self._changed.wait(self._idle())
            images, self._coming = self._coming, None
            self._ahead.clear()
        if images is None:
            images = self._read(turns)
            self._encode_together(images)
        return images

    def _idle(self) -> float:
        """See to what no image can be taken of; seconds until it is time to look again."""
        if self._reading:
            return HEARTBEAT
        now = time.monotonic()
        patience = [HEARTBEAT]
        for channel in self._order:
            first = channel.mailbox.first()
            if first is None:
                channel.rest(now)
            else:
                channel.mailbox.hold()
                patience.append(channel.patience(first, now))
        return min(patience)

    def _encode_together(self, images: list[_Image]) -> None:
        """Look at the images of several cameras, whose image features are made in one batch."""
        together = [
            i for i, image in enumerate(images) if image.channel.wants_features(image.taken)
        ]
        if len(together) < 2:
            return
        for i in together:
            images[i] = images[i]._replace(found=Future())
        wanting = [images[i] for i in together]
        try:
            with self._perception.arithmetic():
                found = self._perception.encode_images([w.taken.frame.image for w in wanting])
        except Exception as error:
            for image in wanting:
                _found(image).set_exception(error)
            return
        for image, features in zip(wanting, found, strict=True):
            _look(image, features)

    def _note(self, served: Served, start: float, end: float) -> None:
        """The time of one camera is what the others have waited for."""
        with self._changed:
            self._begun = None
            self._answer_seconds[self._looked_ahead] = end - start
            self._elsewhere[id(served)] = 0.0
            for channel in self._order:
                since = self._ahead.get(id(channel), channel.mailbox.since)
                if channel is not served and since is not None:
                    self._elsewhere[id(channel)] += end - max(start, since)

    # The thread that looks ahead.

    def _look_ahead(self) -> None:
        while self._look_at(self._wait_for_time()):
            pass
        heap.give_back()

    def _look_at(self, turns: Sequence[_Turn]) -> bool:
        """Read the images, hand them over and look at them; False where there are none."""
        if not turns:
            return False
        images = [image._replace(found=Future()) for image in self._read(turns)]
        with self._changed:
            self._coming, self._reading = images, False
            self._changed.notify_all()
        start = time.monotonic()
        for image in images:
            _look(image, None)
        self._look_seconds = time.monotonic() - start
        return True

    def _wait_for_time(self) -> list[_Turn]:
        """The next images once it is time to look at them; none once the worker is stopped."""
        with self._changed:
            while not self._stopped:
                seconds = self._until_due()
                if seconds is not None and seconds <= 0:
                    turns = self._choose()
                    if turns:
                        self._reading = True
                        self._ahead = {id(turn.channel): turn.since for turn in turns}
                        return turns
                self._changed.wait(seconds or None)
            return []

    def _until_due(self) -> float | None:
        """Seconds until the next image should be looked at, so that this is done when the answer in
        hand is; None while there is none, or the next one has been taken."""
        if self._begun is None or self._coming is not None or not self._answer_seconds:
            return None
        answer = self._answer_seconds.get(self._looked_ahead, 0.0)
        due = self._begun + max(0.0, answer - self._look_seconds)
        return max(0.0, due - time.monotonic())

    # Both.

    def _choose(self) -> list[_Turn]:
        """Take the images that are next; once the worker is stopped, those in hand."""
        now = time.monotonic()
        waiting = [(c, first) for c in self._order if (first := c.mailbox.first())]
        if self._stopped:
            chosen = [c for c, _ in waiting if c.mailbox.holds]
        else:
            ready = [c for c, first in waiting if c.ready(first, now)]
            chosen = ready if self._batch else ready[:1]
        self._order = [c for c in self._order if c not in chosen] + chosen
        return [_Turn(c, since=c.mailbox.since or now, arrival=c.mailbox.take()) for c in chosen]

    def _read(self, turns: Sequence[_Turn]) -> list[_Image]:
        taken = [(turn.channel, turn.channel.read(turn.arrival)) for turn in turns]
        return [_Image(channel, image, None) for channel, image in taken if image]


def _look(image: _Image, features: Features | None) -> None:
    """Let the networks look at an image; what they raise goes to who asks what they found."""
    found = _found(image)
    try:
        found.set_result(image.channel.look(image.taken, features))
    except Exception as error:
        found.set_exception(error)


def _found(image: _Image) -> Future[Predicted | None]:
    assert image.found is not None
    return image.found
