"""The persistent object memory: which objects there are, and the life of each.

tentative -> confirmed -> occluded -> lost -> forgotten; an occluded or lost object comes back with
its id when discovery sees something that looks like it.

What is in sight stays so as long as it has a pixel; what is out of sight must show clearly, or for
`confirm_frames` frames on end, to come back. So an object on the verge does not flicker.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.reid import KEEP, assign
from sam2vss_ros.types import NO_OBJECT, TrackState

CLEAR_VISIBILITY = 0.7
CLEAR_AREA = 0.25
"""An object is clearly back at this visibility and share of its usual area."""

REVIVAL_MARGIN = 0.02
"""By how much an object must be more alike than the next to be known again."""


@dataclass
class Track:
    """One object. `slot` is its place in the memory bank; ids are never used twice in a stream.

    age, seen and missed count frames: since birth, with sight, and since the last sight. glimpses:
    frames on end with a pixel of it. area: its usual one, in pixels of the masks. appearance:
    (A,), the mean of its looks, None before the first. prompted: a user asked for it.
    """

    track_id: int
    slot: int
    belief: ClassPosterior
    prompted: bool = False
    state: TrackState = TrackState.TENTATIVE
    age: int = 0
    seen: int = 0
    missed: int = 0
    glimpses: int = 0
    area: float = 0.0
    predicted_iou: float = 0.0
    visibility: float = 0.0
    appearance: Tensor | None = field(default=None, repr=False)

    def look_like(self, look: Tensor) -> None:
        """Take in what it looks like on a frame, a unit vector (A,); early frames weigh equally."""
        keep = min(KEEP, 1 - 1 / max(1, self.seen))
        past = look if self.appearance is None else self.appearance
        self.appearance = keep * past + (1 - keep) * look

    def likeness(self, look: Tensor) -> float:
        """Cosine similarity of a look, a unit vector (A,), to its past; 1 where it has none."""
        if self.appearance is None:
            return 1.0
        return float(F.normalize(self.appearance, dim=0) @ look)

    def in_sight(self, area: int, visibility: float, config: PipelineConfig) -> bool:
        """Whether it counts as seen on a frame that shows `area` pixels of it."""
        self.glimpses = self.glimpses + 1 if area else 0
        clear = visibility >= CLEAR_VISIBILITY and area >= CLEAR_AREA * self.area
        if area and (not self.missed or clear or self.glimpses >= config.confirm_frames):
            self.area += (area - self.area) / min(10, self.seen)
            return True
        return False


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

    def add(self, track_id: int, belief: ClassPosterior, prompted: bool = False) -> Track:
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

    def observe(self, track: Track, area: int, visibility: float, config: PipelineConfig) -> None:
        """Move one followed object on by a frame that shows `area` pixels of it.

        visibility: the tracker's probability that it is there.
        """
        track.age += 1
        if track.in_sight(area, visibility, config):
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

    def lose(self, track: Track) -> None:
        """A followed object is out of sight at once and for good, unless it is recognised."""
        track.age += 1
        track.missed += 1
        if track.state == TrackState.TENTATIVE:
            self.remove(track.track_id)
        else:
            track.state = TrackState.LOST

    def age_lost(self, config: PipelineConfig) -> None:
        """Move the lost objects on by a frame and forget those lost too long."""
        for track in self.lost():
            track.age += 1
            track.missed += 1
            if track.missed > config.lost_after + config.forget_after:
                self.remove(track.track_id)

    def recognise(self, looks: Tensor, config: PipelineConfig) -> list[Track | None]:
        """Which unseen object each of (N, A) looks is; None where it is none of them for sure."""
        unseen = [t for t in self._tracks.values() if t.missed and t.appearance is not None]
        if not unseen or not len(looks):
            return [None] * len(looks)
        known = F.normalize(torch.stack([t.appearance for t in unseen]), dim=1)  # type: ignore[misc]
        found = assign(looks @ known.T, config.revive_similarity, REVIVAL_MARGIN)
        return [None if i is None else unseen[i] for i in found]
