"""The persistent object memory: which objects there are, and the life of each.

tentative -> confirmed -> occluded -> lost -> forgotten; a lost object comes back with its id when
discovery sees something that looks like it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.classifier import Belief
from sam2vss_ros.types import NO_OBJECT, TrackState


@dataclass
class Track:
    """One object. `slot` is its place in the memory bank; ids are never used twice in a stream.

    age, seen and missed count frames: since birth, with sight, and since the last sight.
    appearance: (A,) unit vector of the last sight, None before the first. prompted: a user asked
    for it.
    """

    track_id: int
    slot: int
    belief: Belief
    prompted: bool = False
    state: TrackState = TrackState.TENTATIVE
    age: int = 0
    seen: int = 0
    missed: int = 0
    predicted_iou: float = 0.0
    visibility: float = 0.0
    appearance: Tensor | None = field(default=None, repr=False)


class ObjectMemory:
    """At most `max_objects` objects. Other threads may ask for ids and look, but not change."""

    def __init__(self, config: PipelineConfig) -> None:
        self._free = list(range(config.max_objects))
        self._tracks: dict[int, Track] = {}
        self._last_id = NO_OBJECT
        self._lock = threading.Lock()

    def __contains__(self, track_id: int) -> bool:
        return track_id in self._tracks

    def __len__(self) -> int:
        return len(self._tracks)

    def all(self) -> list[Track]:
        """Every object, oldest first."""
        return list(self._tracks.values())

    def active(self) -> list[Track]:
        """The objects that are followed from frame to frame: all but the lost."""
        return [t for t in self.all() if t.state != TrackState.LOST]

    def lost(self) -> list[Track]:
        """The objects that are remembered but not followed."""
        return [t for t in self.all() if t.state == TrackState.LOST]

    def room(self) -> int:
        """How many objects can still be added, counting the places of lost ones."""
        return len(self._free) + len(self.lost())

    def new_id(self) -> int:
        """A track id that nobody has; thread-safe."""
        with self._lock:
            self._last_id += 1
            return self._last_id

    def add(self, track_id: int, belief: Belief, prompted: bool = False) -> Track:
        """Give an object a slot; where none is free, the one lost longest is forgotten.

        Raises IndexError when there is no room.
        """
        if not self._free:
            oldest = max(self.lost(), key=lambda t: t.missed, default=None)
            if oldest is None:
                raise IndexError("the object memory is full")
            self.remove(oldest.track_id)
        track = Track(track_id, self._free.pop(), belief, prompted)
        self._tracks[track_id] = track
        return track

    def remove(self, track_id: int) -> None:
        """Forget an object at once."""
        self._free.append(self._tracks.pop(track_id).slot)

    def clear(self) -> None:
        """Forget all objects; ids go on, so that none is used twice."""
        for track_id in list(self._tracks):
            self.remove(track_id)

    def see(self, track: Track, config: PipelineConfig) -> None:
        """An object is in sight: a new one, one that is followed, or one that is back."""
        track.seen += 1
        track.missed = 0
        believed = track.state != TrackState.TENTATIVE or track.seen >= config.confirm_frames
        track.state = TrackState.CONFIRMED if believed else TrackState.TENTATIVE

    def observe(self, track: Track, visible: bool, config: PipelineConfig) -> None:
        """Move one followed object on by a frame in which it was seen or not."""
        track.age += 1
        if visible:
            self.see(track, config)
            return
        track.missed += 1
        if track.state == TrackState.TENTATIVE:
            if track.missed >= config.confirm_frames:
                self.remove(track.track_id)
        elif track.missed > config.lost_after:
            track.state = TrackState.LOST
        else:
            track.state = TrackState.OCCLUDED

    def age_lost(self, config: PipelineConfig) -> None:
        """Move the lost objects on by a frame and forget those lost too long."""
        for track in self.lost():
            track.age += 1
            track.missed += 1
            if track.missed > config.lost_after + config.forget_after:
                self.remove(track.track_id)

    def recognise(self, appearance: Tensor, config: PipelineConfig) -> Track | None:
        """The unseen object that looks most like `appearance`, (A,), if it looks alike enough."""
        unseen = [t for t in self._tracks.values() if t.missed and t.appearance is not None]
        if not unseen:
            return None
        best = max(unseen, key=lambda t: float(t.appearance @ appearance))  # type: ignore[operator]
        assert best.appearance is not None
        alike = float(best.appearance @ appearance) >= config.revive_similarity
        return best if alike else None
