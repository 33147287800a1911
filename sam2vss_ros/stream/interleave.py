"""Whose turn it is: some objects are followed, the masks of the others move with the image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam2vss_ros.sam2 import policy
from sam2vss_ros.sam2.masks import iou_of
from sam2vss_ros.sam2.options import RestRule
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.motion import Flow, along, belief_on
from sam2vss_ros.transfer import upload_index

BELIEVED = 0.6
"""Least belief in the flow, as a mean over a mask and its border, for the mask to move by it."""


@dataclass(frozen=True)
class _Followed:
    """How an object was when it was last followed.

    agreement: IoU of the mask that was found with the one that the flow had carried there; 0 where
    the tracker was not sure of it. area: its pixels. rested: frames since.
    """

    agreement: float
    area: float
    rested: int = 0


class Interleave:
    """Lets objects rest whose masks can be carried along the flow, in turns.

    Who may rest: when the object was last followed, its carried mask agreed with what was found;
    since then its area has stayed much the same; and the flow is believed on the mask and its
    border. All of it is asked anew on each frame, and `RestRule` says how much is enough.

    Objects go by any number that is theirs for good. nothing: a batch without objects.
    """

    def __init__(self, nothing: Tracked) -> None:
        self._last = nothing
        self._row: dict[int, int] = {}  # object -> its place in `_last`
        self._followed: dict[int, _Followed] = {}
        self._carried: Tensor | None = None  # the masks of `_last` on this frame
        self._resting: list[int] = []  # objects, on this frame

    def rest(
        self, able: Sequence[int], rule: RestRule | None, flow: Flow | None
    ) -> tuple[list[int], Tracked]:
        """Those of the objects `able` that rest on this frame, and how they are on it.

        flow: to the frame before. Nobody rests without a rule, or where there is no flow: on the
        first frame and where the stream breaks.
        """
        self._resting, self._carried = [], None
        if rule is None or flow is None or not self._row:
            return [], self._last.take([])
        self._carried = along(self._last.masks, flow)
        trust = self._trust(self._carried, flow)
        may = [i for i in able if trust.get(i, 0.0) >= rule.agreement]
        may.sort(key=lambda i: -self._followed[i].rested)
        turns = turns_now([self._followed[i].rested for i in may], rule.turns)
        self._resting = may[turns:]
        moved = dataclasses.replace(self._last, masks=self._carried)
        return self._resting, moved.take([self._row[i] for i in self._resting])

    def _trust(self, masks: Tensor, flow: Flow) -> dict[int, float]:
        """How far the carried masks are trusted to be right, as an IoU, by object."""
        figures = torch.stack([_areas(masks), belief_on(masks, flow)], 1).tolist()
        trust = {}
        for i, seen in self._followed.items():
            area, belief = figures[self._row[i]]
            alike = min(area, seen.area) / max(area, seen.area, 1)
            trust[i] = min(seen.agreement, alike) if belief >= BELIEVED else 0.0
        return trust

    def note(self, objects: Sequence[int], tracked: Tracked) -> None:
        """Remember the visible objects at the end of a frame, in the order of `tracked`."""
        row = {name: i for i, name in enumerate(objects)}
        known = {
            i: dataclasses.replace(self._followed[i], rested=self._followed[i].rested + 1)
            for i in self._resting
            if i in row
        }
        found = [i for i in objects if i in self._row and i not in self._resting]
        if found and self._carried is not None:
            here = tracked.take([row[i] for i in found])
            before = upload_index([self._row[i] for i in found], here.masks.device)
            agreement = iou_of(self._carried[before] > 0, here.masks > 0)
            sure = here.predicted_iou >= policy.LEAST_IOU
            figures = torch.stack([agreement * sure, _areas(here.masks)], 1).tolist()
            known |= {i: _Followed(*seen) for i, seen in zip(found, figures, strict=True)}
        self._followed, self._last, self._row = known, tracked, row


def turns_now(rested: Sequence[int], turns: int) -> int:
    """How many objects are followed now, of some that have rested for so many frames.

    Each is followed on one of `turns` frames at the least, and no frame has more than an even share
    of them, where that can be.
    """
    least, share = len(rested) // turns, -(-len(rested) // turns)
    # Those whose turn comes by the j-th frame from now, less what the frames until then can take.
    due = (sum(r >= turns - 1 - j for r in rested) - j * share for j in range(turns))
    return max(least, *due)


def _areas(masks: Tensor) -> Tensor:
    """(B,) pixels of (B, h, w) masks, float32."""
    return (masks > 0).flatten(1).sum(1).float()
