"""Masks followed through a video as SAM 2 itself does: all on every frame, each remembered."""

from __future__ import annotations

from collections.abc import Collection

from sam2vss_ros.sam2.functional import ImageFeatures
from sam2vss_ros.sam2.tracker import Tracked, Tracker


class Masklets:
    """The objects of one video, in the order in which they began; none is ever dropped.

    tracker: with a slot for each of them.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.slots: list[int] = []

    def begin(self, features: ImageFeatures, found: Tracked) -> None:
        """Start objects on the frame they were found on; they take the next free slots."""
        self.tracker.start(features, found)
        self.slots += found.slots

    def advance(self, features: ImageFeatures, resting: Collection[int] = ()) -> Tracked:
        """Follow all but the `resting` slots to the next frame, and remember what they became."""
        tracked = self.tracker.step(features, [s for s in self.slots if s not in resting])
        self.tracker.commit(features, tracked)
        return tracked
