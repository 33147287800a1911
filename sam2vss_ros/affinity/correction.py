"""How the mask decoder is asked: about a few objects a frame, by turns.

What it changed of an object's mask moves with the optical flow until the object's next turn, so a
frame does not cost the more, the more objects are in sight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sam2vss_ros.affinity import decoder
from sam2vss_ros.affinity.crumbs import without_crumbs
from sam2vss_ros.affinity.decoder import MaskDecoder, Seen, Windows
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.memory import NOTHING
from sam2vss_ros.affinity.object_pointers import ObjectPointers
from sam2vss_ros.stream.motion import Flow, along
from sam2vss_ros.transfer import upload_index

AT_ONCE = 2
"""Objects that are looked at on a frame."""

BELIEF = 0.6
"""Share of what the decoder says that is done. It learned from made-up clips: on what is like them
all would be better, on other material it would do more harm."""

LEAST_CONTRAST = 0.1
"""To what is around it; of an object with less the decoder cannot see where it ends, and what was
read stays. Real things have 0.14 and more, a blank image 0.02."""


class Correction:
    """Of one stream: what the decoder last changed of each of `slots` objects, and their pointers.

    Images of one size, which `allocate` is told.
    """

    def __init__(self, network: MaskDecoder, slots: int, device: torch.device) -> None:
        self._network, self._slots, self._device = network, slots, device
        self._waiting = [0] * slots  # frames since the object was looked at
        self._looked_at: set[int] = set()  # on this frame
        self.release()

    def allocate(self, size: tuple[int, int]) -> None:
        """Take the memory for masks of `size` (height, width)."""
        self.pointers = ObjectPointers(self._slots, self._device)
        self._changes = torch.zeros(self._slots, *size, device=self._device)

    def release(self) -> None:
        """Give the memory back; what it held is gone."""
        self.pointers = ObjectPointers(0, self._device)
        self._changes = torch.zeros(0, device=self._device)

    def nbytes(self) -> int:
        """Bytes of the tensors; 0 once released."""
        return self.pointers.nbytes() + self._changes.nbytes

    def begin(self, features: TrunkFeatures, objects: Sequence[int], masks: Tensor) -> None:
        """Objects begin with (B, h, w) bool masks, of which nothing is to be corrected."""
        index = upload_index(objects, self._device)
        self._changes[index] = 0.0
        for i in objects:
            self._waiting[i] = self._slots  # it is next
        self.pointers.begin(index, features.unit_keys, masks)

    def learn(self, features: TrunkFeatures, objects: Sequence[int], masks: Tensor) -> None:
        """Objects were seen with (B, h, w) bool masks: those looked at now are learned from."""
        new = [n for n, i in enumerate(objects) if i in self._looked_at]
        if new:
            index = upload_index([objects[n] for n in new], self._device)
            self.pointers.learn(index, features.unit_keys, masks[new])

    def correct(
        self,
        features: TrunkFeatures,
        objects: list[int],
        read: Tensor,
        before: Tensor,
        flow: Flow | None,
    ) -> Tensor:
        """(B, h, w) logits of objects, corrected.

        read: (B, h, w) logits that memory gives. before: (B, h, w) soft masks of the last frame,
        moved along the flow. flow: from this frame to the last.
        """
        due = self._due(objects, _somewhere(read, before))
        rest = [objects[n] for n in range(len(objects)) if n not in due]
        if rest:
            self._move(rest, flow)
        if due:
            looked_at = [objects[n] for n in due]
            windows = Windows.around((read[due] > 0) | (before[due] > 0.5))
            seen = self.see(features, looked_at, read, before, due, windows)
            size = (read.shape[-2], read.shape[-1])
            index = upload_index(looked_at, self._device)
            believed = BELIEF * (self.pointers.contrast(index) >= LEAST_CONTRAST)[:, None, None]
            changes = decoder.spread(believed * self._network(seen), windows, size)
            changes = without_crumbs(read[due] + changes) - read[due]
            self._changes.index_copy_(0, index, changes)
        changes = self._changes.index_select(0, upload_index(objects, self._device))
        return changes.add_(read).clamp_(NOTHING, -NOTHING)

    def see(
        self,
        features: TrunkFeatures,
        objects: list[int],
        read: Tensor,
        before: Tensor,
        places: list[int],
        windows: Windows,
    ) -> Seen:
        """What the decoder sees of objects in windows; `places`: theirs in `read` and `before`."""
        likeness = self.pointers.likeness(upload_index(objects, self._device), features.unit_keys)
        others = decoder.strongest_other(read, places)
        return decoder.see(
            features.colours,
            features.changes,
            likeness,
            read[places],
            before[places],
            others,
            windows,
        )

    def _due(self, objects: list[int], there: list[bool]) -> list[int]:
        """Places of those that are looked at now: who has waited longest."""
        for i in objects:
            self._waiting[i] += 1
        able = [n for n, some in enumerate(there) if some]
        able.sort(key=lambda n: -self._waiting[objects[n]])
        due = sorted(able[:AT_ONCE])
        self._looked_at = {objects[n] for n in due}
        for i in self._looked_at:
            self._waiting[i] = 0
        return due

    def _move(self, objects: list[int], flow: Flow | None) -> None:
        """Move what was changed of them last along the flow; without one it is gone."""
        index = upload_index(objects, self._device)
        if flow is None:
            self._changes.index_fill_(0, index, 0.0)
            return
        changes = self._changes.index_select(0, index)
        self._changes.index_copy_(0, index, along(changes, flow))


def _somewhere(read: Tensor, before: Tensor) -> list[bool]:
    """Of which objects there is anything, as read or before."""
    found = (read.flatten(1).amax(1) > 0) | (before.flatten(1).amax(1) > 0.5)
    there: list[bool] = found.tolist()
    return there
