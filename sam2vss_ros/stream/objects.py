"""The persistent object memory: which objects there are, and the life of each.

tentative -> confirmed -> occluded -> lost -> forgotten; an occluded or lost object comes back with
its id when discovery sees something that looks like it.

What is in sight stays so as long as it has a pixel; what is out of sight must show clearly, or for
`confirm_frames` frames on end, to come back. So an object on the verge does not flicker.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.semantics.posterior import ClassPosterior
from sam2vss_ros.stream.reid import KEEP, assign
from sam2vss_ros.types import TrackState

CLEAR_VISIBILITY = 0.7
CLEAR_AREA = 0.25
"""An object is clearly back at this visibility and share of its usual area."""

REVIVAL_MARGIN = 0.02
"""By how much an object must be more alike than the next to be known again."""


@dataclass(eq=False)
class Track:
    """One object; only `ObjectMemory` changes it.

    slot: its place in the memory bank. track_id: never used twice in a stream. age, seen and missed
    count frames: since birth, with sight, and since the last sight. glimpses: frames on end with a
    pixel of it. area: its usual one, in pixels of the masks; last_area: that on the last frame it
    was seen on. predicted_iou, visibility: the tracker's on the last frame, from 0 to 1.
    embedding: (A,), the mean over its life, None before the first; begun: that of what was found
    last. prompted: a user asked for it.
    """

    track_id: int
    slot: int
    posterior: ClassPosterior
    prompted: bool = False
    state: TrackState = TrackState.TENTATIVE
    age: int = 0
    seen: int = 0
    missed: int = 0
    glimpses: int = 0
    area: float = 0.0
    last_area: int = 0
    predicted_iou: float = 0.0
    visibility: float = 0.0
    embedding: Tensor | None = field(default=None, repr=False)
    begun: Tensor | None = field(default=None, repr=False)

    @property
    def in_sight(self) -> bool:
        """Whether it was seen on the last frame."""
        return not self.missed

    @property
    def certainty(self) -> float:
        """How sure it is that it is there, to compare with others: the less the longer it is lost,
        and from 0 on while it is not; above 1 where it is confirmed and seen."""
        if self.state == TrackState.LOST:
            return -self.missed
        return (self.state == TrackState.CONFIRMED) + self.predicted_iou * self.visibility


class ObjectMemory:
    """At most `max_objects` objects, each in a slot of the memory bank."""

    def __init__(self, max_objects: int) -> None:
        self._free = list(range(max_objects))
        self._tracks: dict[int, Track] = {}
        self._ids = itertools.count(1)

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

    def vacancies(self) -> int:
        """How many objects a search can start or bring back: free places and lost objects."""
        return len(self._free) + len(self.lost())

    def room(self) -> int:
        """How many objects can still be started, counting the places of lost ones; what a user
        asked for keeps its place."""
        return len(self._free) + sum(not t.prompted for t in self.lost())

    def new_id(self) -> int:
        """A track id that nobody has; any thread may ask for one."""
        return next(self._ids)

    def reserve(self, largest: int) -> None:
        """Give no id up to this one to anybody who does not ask for it. Before the first frame."""
        self._ids = itertools.count(max(next(self._ids), largest + 1))

    def get(self, track_id: int) -> Track | None:
        """The object of this id, None where it is not in memory."""
        return self._tracks.get(track_id)

    def start(self, track_id: int, posterior: ClassPosterior, prompted: bool = False) -> Track:
        """Give an object a slot; where none is free, the one lost longest is forgotten.

        Raises IndexError when there is no room.
        """
        if not self._free:
            if not self.room():
                raise IndexError("the object memory is full")
            self.make_room(1)
        track = Track(track_id, self._free.pop(), posterior, prompted)
        self._tracks[track_id] = track
        return track

    def make_room(self, places: int) -> None:
        """Forget the least certain of those that were found, until so many places are free. What
        a user asked for stays."""
        found = sorted((t for t in self.all() if not t.prompted), key=lambda t: t.certainty)
        for track in found[: max(0, places - len(self._free))]:
            self.remove(track.track_id)

    def remove(self, track_id: int) -> None:
        """Forget an object at once."""
        self._free.append(self._tracks.pop(track_id).slot)

    def clear(self) -> None:
        """Forget all objects; ids go on, so that none is used twice."""
        for track_id in list(self._tracks):
            self.remove(track_id)

    def find(self, track: Track, config: PipelineConfig) -> None:
        """Discovery or a prompt sees an object: a new one, or one that is back."""
        track.seen += 1
        track.missed = 0
        believed = track.state != TrackState.TENTATIVE or track.seen >= config.confirm_frames
        track.state = TrackState.CONFIRMED if believed else TrackState.TENTATIVE

    def miss(self, track: Track) -> None:
        """A new object is not found where the user says it is."""
        track.missed = 1

    def rate(self, track: Track, predicted_iou: float, visibility: float) -> None:
        """Note how sure the tracker is of an object's mask, and that it is there."""
        track.predicted_iou, track.visibility = predicted_iou, visibility

    def observe(self, track: Track, area: int, config: PipelineConfig) -> None:
        """Move a followed and rated object on by a frame that shows `area` pixels of it."""
        track.age += 1
        track.glimpses = track.glimpses + 1 if area else 0
        if is_shown(track, area, config):
            track.area += (area - track.area) / min(10, track.seen)
            track.last_area = area
            self.find(track, config)
            return
        track.missed += 1
        if track.state == TrackState.TENTATIVE:
            if track.missed >= config.confirm_frames:
                self.remove(track.track_id)
        elif track.missed > config.lost_after:
            track.state = TrackState.LOST
        else:
            track.state = TrackState.OCCLUDED

    def rest(self, track: Track) -> None:
        """Move an object on by a frame on which it is not followed, and not missed."""
        track.age += 1

    def pass_over(self, config: PipelineConfig) -> None:
        """Move all objects on by a frame that nobody has looked at: who is in sight stays so."""
        self.age_lost(config)
        for track in self.active():
            self.rest(track)
            track.missed += not track.in_sight

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

    def rename(self, old: Sequence[int], new: Sequence[int]) -> None:
        """The classes are others; as `ClassPosterior.renamed`."""
        for track in self.all():
            track.posterior = track.posterior.renamed(old, new)

    def classify(self, track: Track, shares: Tensor, config: PipelineConfig) -> None:
        """Take in a frame's evidence of its class, (C,) shares that sum to 1."""
        track.posterior.add(shares, config.belief_memory)

    def begin(self, track: Track, embedding: Tensor) -> None:
        """Note its embedding, a unit vector (A,), on a frame on which it was found."""
        track.begun = embedding

    def learn(self, track: Track, embedding: Tensor) -> None:
        """Take in its embedding on a frame, a unit vector (A,); early frames weigh equally."""
        keep = min(KEEP, 1 - 1 / max(1, track.seen))
        past = embedding if track.embedding is None else track.embedding
        track.embedding = keep * past + (1 - keep) * embedding

    def recognise(self, embeddings: Tensor, config: PipelineConfig) -> list[Track | None]:
        """Which unseen object each of (N, A) is; None where it is none of them for sure."""
        unseen = [t for t in self._tracks.values() if t.missed and t.embedding is not None]
        if not unseen or not len(embeddings):
            return [None] * len(embeddings)
        alike = likeness(unseen, embeddings)
        found = assign(alike, config.revive_similarity, REVIVAL_MARGIN)
        return [None if i is None else unseen[i] for i in found]


def likeness(tracks: Sequence[Track], embeddings: Tensor) -> Tensor:
    """(N, tracks) cosine similarities of (N, A) embeddings to the past of objects that have one.

    Their mean may have taken on what their masks spread to; what was found is older, but clean.
    """
    means = torch.stack([t.embedding for t in tracks if t.embedding is not None])
    begun = [t.embedding if t.begun is None else t.begun for t in tracks]
    found = torch.stack([e for e in begun if e is not None])
    pasts = (F.normalize(past, dim=1) for past in (means, found))
    return torch.stack([embeddings @ past.T for past in pasts]).amax(0)


def is_shown(track: Track, area: int, config: PipelineConfig) -> bool:
    """Whether `area` pixels of an object on a frame are enough to call it seen."""
    clear = track.visibility >= CLEAR_VISIBILITY and area >= CLEAR_AREA * track.area
    return area > 0 and (track.in_sight or clear or track.glimpses >= config.confirm_frames)
