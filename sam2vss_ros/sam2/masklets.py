"""Masks followed through a video as SAM 2 itself does: all on every frame, each remembered."""

from __future__ import annotations

from collections.abc import Collection

from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.motion import Flow
from sam2vss_ros.tracking import Features, ObjectTracker


class Masklets:
    """The objects of one video, in the order in which they began; none is ever dropped.

    tracker: with a slot for each of them.
    """

    def __init__(self, tracker: ObjectTracker) -> None:
        self.tracker = tracker
        self.slots: list[int] = []

    def begin(self, features: Features, found: Tracked) -> None:
        """Start objects on the frame they were found on; they take the next free slots."""
        self.tracker.start(features, found)
        self.slots += found.slots

    def advance(
        self, features: Features, resting: Collection[int] = (), flow: Flow | None = None
    ) -> Tracked:
        """Follow all but the `resting` slots to the next frame, and remember what they became.

        flow: as for `ObjectTracker.step`.
        """
        slots = [slot for slot in self.slots if slot not in resting]
        tracked = self.tracker.step(features, slots, flow)
        self.tracker.commit(features, tracked)
        return tracked
