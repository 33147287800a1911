"""The worker: which camera it serves, what is dropped, how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from sensor_msgs.msg import Image

from harness import header
from pipelines import shared_perception
from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.ros.mailbox import Arrival, Mailbox
from sam2vss_ros.ros.worker import Taken, Worker
from sam2vss_ros.stages.features import Looked, Predicted
from sam2vss_ros.tracking import Features
from sam2vss_ros.types import Frame
from small_sam2 import SMALL_SAM2


class Camera:
    """Takes images apart by their width, which is their number; each is answered when the test
    lets it. `blocked` images are never ready before `limit`, in monotonic seconds."""

    def __init__(self, log: list[str], name: str, size: int = 10, latest: bool = False) -> None:
        self.mailbox = Mailbox(size, latest)
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.blocked: set[int] = set()
        self.limit = float("inf")
        self.wants = False
        self.rested = threading.Event()
        self.elsewhere: list[float] = []
        self.features: list[Features | None] = []
        self.looks: list[int] = []
        self.looked, self.broken = threading.Semaphore(0), False
        self.found: list[str] = []
        self._log, self._name = log, name

    def ready(self, arrival: Arrival, now: float) -> bool:
        return arrival.message.width not in self.blocked or now >= self.limit

    def patience(self, arrival: Arrival, now: float) -> float:
        return max(0.0, self.limit - now)

    def read(self, arrival: Arrival) -> Taken | None:
        number = arrival.message.width
        image = np.full((8, 8, 3), number, np.uint8)
        return Taken(arrival, Frame(image, number)) if number else None

    def wants_features(self, taken: Taken) -> bool:
        return self.wants

    def look(self, taken: Taken, image: Features | None) -> Predicted | None:
        self.features.append(image)
        self.looks.append(taken.frame.stamp_ns)
        self.looked.release()
        if self.broken:
            raise ValueError("no look")
        return None

    def answer(self, taken: Taken, looked: Looked | None, elsewhere: float) -> None:
        self.elsewhere.append(elsewhere)
        self.begun.release()
        assert self.go.acquire(timeout=60)
        try:
            found = "" if looked is None else str(looked())
        except ValueError as error:
            found = str(error)
        self._log.append(f"{self._name}{taken.frame.stamp_ns}")
        self.found.append(found)

    def rest(self, now: float) -> None:
        self.rested.set()


def arrival(number: int) -> Arrival:
    return Arrival(Image(width=number), time.monotonic())


@pytest.fixture
def log() -> list[str]:
    return []


OF_OFFICES = PipelineConfig(model=SMALL_SAM2, device="cpu")


class Office:
    """Cameras a, b, ... and their worker."""

    def __init__(
        self, log: list[str], cameras: list[Camera], batch: bool = False, ahead: bool = False
    ) -> None:
        perception = shared_perception(OF_OFFICES)
        self.cameras, self.log = cameras, log
        self.worker = Worker(perception, cameras, batch, ahead)

    def finish(self, count: int) -> list[str]:
        """Let everything be answered until there are so many answers, and end."""
        for camera in self.cameras:
            for _ in range(count):
                camera.go.release()
        end = time.monotonic() + 10
        while len(self.log) < count and time.monotonic() < end:
            time.sleep(0.001)
        self.worker.stop()
        return self.log


@pytest.fixture
def one(log: list[str]) -> Iterator[Office]:
    office = Office(log, [Camera(log, "a")])
    yield office
    office.cameras[0].go.release()
    office.worker.stop()


@pytest.mark.parametrize(
    ("size", "latest", "put", "answered"),
    [
        (1, True, [True, False, False, False], ["a9", "a4"]),
        (3, False, [True, True, True, False], ["a9", "a1", "a2", "a3"]),
    ],
)
def test_overload(
    log: list[str], size: int, latest: bool, put: list[bool], answered: list[str]
) -> None:
    camera = Camera(log, "a", size, latest)
    office = Office(log, [camera])
    assert office.worker.put(camera, arrival(9))
    assert camera.begun.acquire(timeout=60)
    assert [office.worker.put(camera, arrival(i)) for i in (1, 2, 3, 4)] == put
    assert office.finish(len(answered)) == answered


def test_time_is_short_for_a_while_after_a_drop(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all cameras: they share the time."""
    cameras = [Camera(log, name, 1, latest=True) for name in "ab"]
    office = Office(log, cameras)
    office.worker.put(cameras[0], arrival(1))
    assert cameras[0].begun.acquire(timeout=60)
    office.worker.put(cameras[1], arrival(2))
    assert not office.worker.hurried
    office.worker.put(cameras[1], arrival(3))
    assert office.worker.hurried
    monkeypatch.setattr("sam2vss_ros.ros.worker.HURRIED", 0.0)
    assert not office.worker.hurried
    office.finish(2)


def test_a_late_image_does_not_displace_a_newer_one() -> None:
    """The newest is the one that was taken last, where the camera sends them in disorder."""

    def taken(stamp: int) -> Arrival:
        return Arrival(Image(header=header(stamp)), time.monotonic())

    mailbox = Mailbox(1, latest=True, max_step_back=1.0)
    first, late, newer, anew = (taken(stamp) for stamp in (5000, 4990, 5010, 4009))
    assert mailbox.put(first) and not mailbox.put(late)
    assert mailbox.first() is first
    for arrival in (newer, anew, taken(0), taken(0)):  # without stamps the last to come is newest
        assert not mailbox.put(arrival)
        assert mailbox.first() is arrival


def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image may be of any size."""

    def taken(size: int) -> Arrival:
        return Arrival(Image(data=bytes(size)), time.monotonic())

    monkeypatch.setattr("sam2vss_ros.ros.mailbox.MOST_BYTES", 1000)
    mailbox = Mailbox(300, latest=False)
    assert mailbox.put(taken(5000)) and not mailbox.put(taken(1))
    mailbox.take()
    assert [mailbox.put(taken(400)) for _ in range(3)] == [True, True, False]
    mailbox.hold()
    assert mailbox.put(taken(600)) and not mailbox.put(taken(1))
    assert mailbox.clear() == 3 and mailbox.put(taken(1000))


def test_stop_finishes_the_image_in_hand_and_leaves_the_others(one: Office) -> None:
    (camera,) = one.cameras
    for i in (1, 2, 3, 4):
        one.worker.put(camera, arrival(i))
    assert camera.begun.acquire(timeout=60)
    threading.Timer(0.05, camera.go.release).start()
    one.worker.stop()
    assert one.log == ["a1"] and camera.mailbox.clear() == 3


def test_a_broken_image_is_passed_over(one: Office) -> None:
    (camera,) = one.cameras
    for i in (1, 0, 2):
        one.worker.put(camera, arrival(i))
    assert one.finish(2) == ["a1", "a2"]


def test_the_camera_served_longest_ago_comes_first(log: list[str]) -> None:
    a, b, c = (Camera(log, name) for name in "abc")
    office = Office(log, [a, b, c])
    office.worker.put(a, arrival(1))
    assert a.begun.acquire(timeout=60)
    for number in (2, 3, 4):
        office.worker.put(a, arrival(number))
    for number in (1, 2):
        office.worker.put(b, arrival(number))
    office.worker.put(c, arrival(1))
    assert office.finish(7) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_a_camera_that_waits_for_something_keeps_nobody_waiting(log: list[str]) -> None:
    """Its image stays its next one, whatever newer ones come."""
    a, b = Camera(log, "a", 1, latest=True), Camera(log, "b")
    a.blocked = {1}
    office = Office(log, [a, b])
    office.worker.put(a, arrival(1))
    b.rested.clear()
    office.worker.wake()
    assert b.rested.wait(10), "the worker has looked at both"
    assert office.worker.put(a, arrival(2)) and not office.worker.put(a, arrival(3))
    office.worker.put(b, arrival(1))
    assert b.begun.acquire(timeout=60)
    a.blocked.clear()
    office.worker.wake()
    assert office.finish(3) == ["b1", "a1", "a3"]


def test_waiting_ends(log: list[str]) -> None:
    camera = Camera(log, "a")
    camera.blocked, camera.limit = {1}, time.monotonic() + 0.1
    office = Office(log, [camera])
    office.worker.put(camera, arrival(1))
    assert camera.begun.acquire(timeout=60)
    assert time.monotonic() >= camera.limit
    assert office.finish(1) == ["a1"]


def test_a_silent_camera_may_rest(one: Office) -> None:
    assert one.cameras[0].rested.wait(10)


def test_what_others_took_is_told(log: list[str]) -> None:
    """Only while an image waited: a slow camera has not waited for all that went on meanwhile."""
    a, b = (Camera(log, name) for name in "ab")
    office = Office(log, [a, b])
    office.worker.put(a, arrival(1))
    assert a.begun.acquire(timeout=60)
    time.sleep(0.1)
    office.worker.put(b, arrival(1))
    time.sleep(0.05)
    assert office.finish(2) == ["a1", "b1"]
    assert a.elsewhere == [0.0] and 0.05 <= b.elsewhere[0] < 0.1


def test_images_that_wait_together_are_encoded_together(log: list[str]) -> None:
    a, b, c = (Camera(log, name) for name in "abc")
    a.wants = b.wants = True
    office = Office(log, [a, b, c], batch=True)
    office.worker.put(c, arrival(1))
    assert c.begun.acquire(timeout=60)
    for camera in (a, b):
        office.worker.put(camera, arrival(200))
    office.worker.put(c, arrival(2))
    assert office.finish(4) == ["c1", "a200", "b200", "c2"]
    assert not c.features
    first, second = a.features[0], b.features[0]
    assert first is not None and second is not None
    for one, other in zip(first.pyramid, second.pyramid, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
        assert one.shape[0] == 1


def test_a_batch_that_fails_fails_its_images(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("out of memory")

    a, b = (Camera(log, name) for name in "ab")
    a.wants = b.wants = True
    office = Office(log, [a, b], batch=True)
    monkeypatch.setattr(shared_perception(OF_OFFICES), "encode_images", fails)
    office.worker.put(a, arrival(1))
    assert a.begun.acquire(timeout=60)
    for camera in (a, b):
        office.worker.put(camera, arrival(2))
    assert office.finish(3) == ["a1", "a2", "b2"] or log == ["a1", "b2", "a2"]
    assert a.found == ["", "out of memory"] and b.found == ["out of memory"]


class TestLookingAhead:
    """A second thread looks at the next image while one is being answered."""

    @pytest.fixture
    def camera(self, log: list[str]) -> Camera:
        return Camera(log, "a", 1, latest=True)

    @pytest.fixture
    def office(self, log: list[str], camera: Camera) -> Iterator[Office]:
        """One that knows already how long an answer takes."""
        office = Office(log, [camera], ahead=True)
        self.begin(office, 100)
        self.end(camera)
        yield office
        camera.go.release()
        office.worker.stop()

    def begin(self, office: Office, number: int) -> None:
        (camera,) = office.cameras
        office.worker.put(camera, arrival(number))
        assert camera.begun.acquire(timeout=60)

    def end(self, camera: Camera) -> None:
        camera.rested.clear()
        camera.go.release()
        assert camera.rested.wait(60), "the worker is free"

    def test_the_next_image_is_looked_at_once(self, office: Office, camera: Camera) -> None:
        self.begin(office, 1)
        office.worker.put(camera, arrival(2))
        assert camera.looked.acquire(timeout=60), "while the first is in hand"
        assert office.worker.put(camera, arrival(3)), "the second does not wait any more"
        assert not office.worker.put(camera, arrival(4))
        assert office.finish(4) == ["a100", "a1", "a2", "a4"]
        assert camera.looks[0] == 2 and 1 not in camera.looks

    def test_nobody_looks_while_there_is_time(self, office: Office, camera: Camera) -> None:
        """An image that comes when the worker is free is answered as ever."""
        for number in (1, 2, 3):
            self.begin(office, number)
            self.end(camera)
        assert office.log == ["a100", "a1", "a2", "a3"] and not camera.looks

    def test_a_broken_image_is_passed_over(self, office: Office, camera: Camera) -> None:
        self.begin(office, 1)
        office.worker.put(camera, arrival(0))
        end = time.monotonic() + 60
        while camera.mailbox.first() is not None and time.monotonic() < end:
            time.sleep(0.001)
        office.worker.put(camera, arrival(2))
        assert office.finish(3) == ["a100", "a1", "a2"]

    def test_a_look_that_fails_fails_its_image(self, office: Office, camera: Camera) -> None:
        camera.broken = True
        self.begin(office, 1)
        office.worker.put(camera, arrival(2))
        assert camera.looked.acquire(timeout=60)
        assert office.finish(3) == ["a100", "a1", "a2"]
        assert camera.found[1:] == ["", "no look"]

    def test_stop_finishes_what_was_looked_at(self, office: Office, camera: Camera) -> None:
        self.begin(office, 1)
        office.worker.put(camera, arrival(2))
        assert camera.looked.acquire(timeout=60)
        office.worker.put(camera, arrival(3))
        threading.Timer(0.05, camera.go.release, ()).start()
        threading.Timer(0.1, camera.go.release, ()).start()
        office.worker.stop()
        assert office.log == ["a100", "a1", "a2"] and camera.mailbox.clear() == 1

    def test_what_others_took_is_told(self, log: list[str]) -> None:
        a, b = Camera(log, "a"), Camera(log, "b")
        office = Office(log, [a, b], ahead=True)
        a.go.release()
        for number in (100, 1):
            office.worker.put(a, arrival(number))
            assert a.begun.acquire(timeout=60)
        office.worker.put(b, arrival(1))
        assert b.looked.acquire(timeout=60)
        time.sleep(0.1)
        assert office.finish(3) == ["a100", "a1", "b1"]
        assert b.elsewhere[0] >= 0.1
