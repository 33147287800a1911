"""Requests to a stream: no place is promised twice, whenever during a frame they come."""

from __future__ import annotations

import numpy as np
import pytest

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.catalog import load_catalog
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.objects import ObjectMemory, Track
from sam2vss_ros.stream.requests import Requests
from sam2vss_ros.types import Prompt

SIZE = (48, 64)
PROMPT = Prompt(box=(10, 10, 30, 30))
CONFIG = PipelineConfig(max_objects=2, confirm_frames=1)
CATALOG = load_catalog("camvid")


class Stream:
    """A stream without images, whose frames the test takes apart."""

    def __init__(self, followed: int = 0, max_objects: int = 2) -> None:
        config = PipelineConfig(max_objects=max_objects, confirm_frames=1)
        self.objects = ObjectMemory(max_objects)
        self.requests = Requests(config, lambda: CATALOG, lambda config: None, self.objects.new_id)
        self.begin()
        self.tracks = [self.start(self.objects.new_id()) for _ in range(followed)]
        self.end()

    def start(self, track_id: int, prompted: bool = False) -> Track:
        track = self.objects.start(track_id, ClassPosterior(11), prompted)
        self.objects.find(track, CONFIG)
        return track

    def begin(self) -> None:
        """As the pipeline begins a frame; raises IndexError where too much was promised.

        Nobody gives way who was asked for.
        """
        taken = self.requests.take(SIZE)
        if taken.reset:
            self.objects.clear()
        for track_id in taken.removals:
            if track_id in self.objects:
                self.objects.remove(track_id)
        held = {t.track_id for t in self.objects.all() if t.prompted}
        self.objects.make_room(len(taken.prompts))
        for placed in taken.prompts:
            self.start(placed.track_id, prompted=True)
        assert all(track_id in self.objects for track_id in held)

    def end(self) -> None:
        self.requests.note(self.objects)

    def next_frame(self) -> list[int]:
        """The ids in memory after the next frame."""
        self.begin()
        self.end()
        return [t.track_id for t in self.objects.all()]

    def fill(self) -> list[int]:
        """Ask for objects until there is no room."""
        asked: list[int] = []
        while len(asked) < 100:
            try:
                asked.append(self.requests.add_prompt(PROMPT))
            except ValueError as full:
                assert "max_objects: all" in str(full)
                return asked
        raise AssertionError("there is always room")


def test_places_of_prompts_just_taken_are_not_promised_again() -> None:
    stream = Stream()
    first = stream.fill()
    assert len(first) == 2
    stream.begin()
    assert stream.fill() == [], "before the frame has ended"
    stream.end()
    assert stream.fill() == [] and stream.next_frame() == first


def test_an_object_just_asked_for_can_be_removed() -> None:
    stream = Stream()
    first, second = stream.fill()
    stream.begin()
    assert stream.requests.remove_object(first) and not stream.requests.remove_object(first)
    (third,) = stream.fill()
    stream.end()
    assert stream.next_frame() == [second, third]


def test_what_is_just_removed_is_not_removed_again() -> None:
    """Its place would count twice."""
    stream = Stream()
    first, second = stream.fill()
    assert stream.next_frame() == [first, second]
    assert stream.requests.remove_object(first)
    stream.begin()
    assert not stream.requests.remove_object(first)
    asked = stream.fill()
    stream.end()
    assert len(asked) == 1
    assert stream.next_frame() == [second, *asked]


def test_what_is_just_forgotten_cannot_be_removed() -> None:
    stream = Stream(followed=2)
    stream.requests.reset()
    stream.begin()
    assert not any(stream.requests.remove_object(t.track_id) for t in stream.tracks)
    asked = stream.fill()
    stream.end()
    assert len(asked) == 2 and stream.next_frame() == asked


def test_what_was_found_gives_way_to_what_is_asked_for() -> None:
    """The least certain first."""
    stream = Stream(followed=3, max_objects=3)
    sure, unsure, fair = stream.tracks
    for track, predicted_iou in ((sure, 0.9), (unsure, 0.5), (fair, 0.7)):
        stream.objects.rate(track, predicted_iou, visibility=1.0)
    for gone, left in ((unsure, [sure, fair]), (fair, [sure]), (sure, [])):
        asked = stream.requests.add_prompt(PROMPT)
        after = stream.next_frame()
        assert gone.track_id not in after and asked in after
        assert [i for i in after if i <= 3] == [t.track_id for t in left]
    with pytest.raises(ValueError, match="all 3 places are taken by objects that users asked for"):
        stream.requests.add_prompt(PROMPT)


def test_the_lost_give_way_before_those_in_sight() -> None:
    stream = Stream(followed=3, max_objects=3)
    for track in stream.tracks[:2]:
        stream.objects.lose(track)
    stream.objects.age_lost(CONFIG)
    stream.objects.lose(stream.tracks[2])  # lost last
    order = []
    for _ in range(3):
        stream.requests.add_prompt(PROMPT)
        order.append({t.track_id for t in stream.tracks} - set(stream.next_frame()))
    assert order == [{1}, {1, 2}, {1, 2, 3}]


def test_discovery_takes_no_place_of_what_was_asked_for() -> None:
    """Also where it is lost: it may come back."""
    stream = Stream()
    asked = stream.fill()
    assert stream.next_frame() == asked
    for track in stream.objects.all():
        stream.objects.lose(track)
    stream.end()
    assert stream.requests.claim(stream.objects, wanted=2) == 0
    assert stream.objects.vacancies() == 2, "they may be known again"
    assert stream.fill() == []
    with pytest.raises(IndexError, match="full"):
        stream.start(stream.objects.new_id())


def test_discovery_leaves_the_places_that_were_promised() -> None:
    stream = Stream(followed=1, max_objects=4)
    stream.begin()
    asked = [stream.requests.add_prompt(PROMPT) for _ in range(2)]
    assert stream.requests.claim(stream.objects, wanted=3) == 1
    found = stream.start(stream.objects.new_id()).track_id
    more = stream.fill()
    assert len(more) == 2, "for those found"
    stream.end()
    assert stream.fill() == []
    after = stream.next_frame()
    assert after == [*asked, *more] and found not in after


def test_a_lost_object_can_be_removed() -> None:
    stream = Stream(followed=2)
    lost = stream.tracks[0]
    stream.objects.lose(lost)
    stream.end()
    assert stream.requests.remove_object(lost.track_id)
    assert not stream.requests.remove_object(lost.track_id)
    asked = stream.requests.add_prompt(PROMPT)
    assert stream.next_frame() == [stream.tracks[1].track_id, asked]


def test_whatever_is_asked_whenever_there_is_a_place_for_it() -> None:
    """Prompts, removals, resets, losses and discoveries at random moments."""
    rng = np.random.default_rng(7)
    stream = Stream(max_objects=3)
    accepted = refused = 0

    def ask() -> None:
        nonlocal accepted, refused
        for _ in range(int(rng.integers(0, 4))):
            what = rng.random()
            if what < 0.45:
                try:
                    stream.requests.add_prompt(PROMPT)
                    accepted += 1
                except ValueError:
                    refused += 1
            elif what < 0.95:
                everybody = range(1, stream.objects.new_id())
                stream.requests.remove_object(int(rng.choice(everybody[-8:] or [1])))
            else:
                stream.requests.reset()

    for _ in range(2000):
        ask()
        stream.begin()
        ask()
        for track in stream.objects.active():
            if rng.random() < 0.2:
                stream.objects.lose(track)
        ask()
        if rng.random() < 0.5:
            for _ in range(stream.requests.claim(stream.objects, wanted=2)):
                stream.start(stream.objects.new_id())
            ask()
        stream.end()
        ask()
    assert accepted > 500 and refused > 500
