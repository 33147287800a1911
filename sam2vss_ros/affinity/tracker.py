"""Tracking by affinity, behind the interface of SAM 2's tracker."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vss_ros.affinity.correction import Correction
from sam2vss_ros.affinity.features import TrunkFeatures
from sam2vss_ros.affinity.leaps import with_leaps
from sam2vss_ros.affinity.memory import (
    COARSE,
    CONDITIONING,
    FINE,
    NOTHING,
    AffinityMemory,
    Found,
    Reading,
)
from sam2vss_ros.affinity.outline import OutlineNet, outline
from sam2vss_ros.affinity.pointing import pointers_of
from sam2vss_ros.affinity.presence import PresenceNet
from sam2vss_ros.sam2.masks import above
from sam2vss_ros.sam2.options import PRESETS, TrackingOptions
from sam2vss_ros.sam2.tracker import Tracked
from sam2vss_ros.stream.motion import Flow, along
from sam2vss_ros.transfer import upload_index
from sam2vss_ros.types import Prompt

SMALL_AREA = 0.008
"""Share of the image below which an object is followed on finer keys."""

SUREST = 10.0
"""Logits of a mask that is given."""


class AffinityTracker:
    """Objects of one camera stream, followed by comparing frames.

    No object rests: one comparison serves all, and who is not asked for is forgotten; tiles of the
    image rest, whatever `options` say.
    Where SAM 2's tracker keeps memories by object, frames are remembered here, with the soft masks
    of the objects on them: those that were read. What the decoder makes of them is for others to
    see; remembered, its errors would add up. Images of another size are another stream: objects are
    forgotten.
    outline: finds masks by points and boxes. correction: corrects what was read, with room for
    `slots` objects. presence: says whether what was found is the object.
    """

    may_rest = False
    weighs_signs = True

    def __init__(
        self,
        outline: OutlineNet,
        presence: PresenceNet,
        correction: Correction,
        slots: int,
        options: TrackingOptions = PRESETS["exact"],
        device: torch.device = torch.device("cpu"),  # noqa: B008
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.options = options
        self.device = device
        self.bank = AffinityBank(slots, correction, device, dtype)
        self._outline, self._presence, self._correction = outline, presence, correction

    def nothing(self) -> Tracked:
        """A batch without objects; its masks are as large as those of the last frame."""
        none = torch.zeros(0, device=self.device)
        return Tracked((), none.view(0, *self.bank.mask_size), none, none, none.view(0, 1))

    def prepare(self, features: TrunkFeatures) -> None:
        """Compute now what `step` will want of an image for the objects there are; any thread may
        do that, for a frame to come."""
        self.bank.prepare(features)

    def step(self, features: TrunkFeatures, slots: list[int], flow: Flow | None = None) -> Tracked:
        """Find the objects of `slots`, in their order, on a frame.

        flow: from this frame to the last. Objects that are not among them are forgotten.
        """
        self.bank.begin(features)
        self.bank.keep(slots)
        if not slots:
            return self.nothing()
        flow = self.bank.led(flow, slots)
        asked = upload_index(slots, self.device)
        read, crisp, before = (part.index_select(0, asked) for part in self.bank.read(flow))
        logits = self._correction.correct(features, slots, read, before, flow)
        score = logits.flatten(1).amax(1)
        return Tracked(tuple(slots), logits, crisp, score, logits.new_zeros(len(slots), 1))

    def weigh(self, tracked: Tracked, signs: Tensor) -> Tracked:
        """The objects of `step` with scores by (B, signs), see `affinity.presence.Sign`.

        What has no mask is not there.
        """
        score = self._presence(signs).masked_fill(tracked.score <= 0, -SUREST)
        return dataclasses.replace(tracked, score=score)

    def commit(self, features: TrunkFeatures, tracked: Tracked) -> None:
        """Remember what objects look like; their masks are remembered as they were read."""
        self._correction.learn(features, tracked.slots, tracked.masks > 0)

    def start(self, features: TrunkFeatures, seen: Tracked) -> None:
        """Begin objects whose conditioning frame is this one."""
        self.bank.begin(features)
        self.bank.start(seen.slots, seen.masks)
        self._correction.begin(features, seen.slots, seen.masks > 0)

    def from_masks(self, features: TrunkFeatures, slots: list[int], masks: Tensor) -> Tracked:
        """Take (B, h, w) bool masks of any size as given; they are not empty."""
        soft = F.interpolate(
            masks[:, None].float(), features.mask_size, mode="bilinear", antialias=True
        )[:, 0]
        # What is smaller than a mask pixel grows to the one that it touches most.
        highest = soft.flatten(1).amax(1)[:, None, None].clamp(max=0.5)
        certain = soft.new_ones(len(slots))
        return Tracked(
            tuple(slots),
            torch.where(soft >= highest, SUREST, -SUREST),
            certain,
            certain * SUREST,
            soft.new_zeros(len(slots), 1),
        )

    def from_prompt(
        self, features: TrunkFeatures, slot: int, prompt: Prompt, size: tuple[int, int]
    ) -> Tracked:
        """Find what a user points at, or take the mask given; `size` is the camera image's (height,
        width)."""
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask)[None].to(self.device)
            return self.from_masks(features, [slot], mask)
        pointers = pointers_of(prompt, size).to(self.device)
        mask, quality = outline(self._outline, features.pyramid, features.colours, pointers)
        logits = mask[None].clamp(-SUREST, SUREST)
        score = logits.flatten(1).amax(1)
        return Tracked((slot,), logits, quality[None], score, logits.new_zeros(1, 1))


class AffinityBank:
    """The memories of one stream: of all objects on coarse keys, but for the small ones on fine;
    and what `correction` remembers of them.

    A frame is begun with its features; until the next one, its objects may be read and started.
    """

    def __init__(
        self, slots: int, correction: Correction, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.mask_size = (0, 0)  # of the last frame
        self._slots, self._device, self._dtype = slots, device, dtype
        self._correction = correction
        self._memories: list[_Followed] = []
        self._features: TrunkFeatures | None = None
        self._keys_before: Tensor | None = None  # of the last frame, those at stride 16
        # Of the masks on the frame in hand; and those on the last, soft.
        self._logits = self._last_masks = torch.zeros(0)

    def allocate(self) -> None:
        """Take the memory, where it is not taken yet and the size of the frames is known."""
        if not self._memories and any(self.mask_size):
            self._memories = [
                _Followed(reading, self.mask_size, self._slots, self._device, self._dtype)
                for reading in (COARSE, FINE)
            ]
            self._correction.allocate(self.mask_size)
            size = (self._slots, *self.mask_size)
            self._logits = torch.full(size, NOTHING, device=self._device)
            self._last_masks = torch.zeros(size, device=self._device)

    def release(self) -> None:
        """Give the memory back; what it held is gone."""
        self._memories, self._features, self._keys_before = [], None, None
        self._correction.release()
        self._logits = self._last_masks = torch.zeros(0)

    def nbytes(self) -> int:
        """Bytes of the tensors; constant while frames have the same size, 0 once released."""
        own = self._logits.nbytes + self._last_masks.nbytes + self._correction.nbytes()
        return own + sum(m.memory.nbytes() for m in self._memories)

    def begin(self, features: TrunkFeatures) -> None:
        """A frame is in hand, unless it is already; the one before is remembered.

        The first one, and one of another size, begin with an empty memory.
        """
        if features.mask_size != self.mask_size:
            self.release()
            self.mask_size = features.mask_size
        self.allocate()
        if features is not self._features:
            followed = any(memory.in_use for memory in self._memories)
            # Where nobody is followed no keys were computed, and none are wanted.
            before = self._features if followed else None
            self._keys_before = None if before is None else before.unit_keys[2]
            self._last_masks = self._logits.sigmoid()
            for memory in self._memories:
                memory.begin(features, self._last_masks)
            self._features = features

    def prepare(self, features: TrunkFeatures) -> None:
        """As that of the tracker."""
        readings = [m.memory.reading for m in self._memories if m.in_use]
        if readings:
            features.prepare(readings)

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all objects but these."""
        for memory in self._memories:
            memory.keep(slots)

    def led(self, flow: Flow | None, slots: Sequence[int]) -> Flow | None:
        """The flow, `with_leaps` of these objects to the frame in hand."""
        if flow is None or self._keys_before is None or self._features is None:
            return flow
        masks = self._last_masks.index_select(0, upload_index(slots, self._device))
        return with_leaps(flow, self._keys_before, self._features.unit_keys[2], masks)

    def read(self, flow: Flow | None) -> tuple[Tensor, Tensor, Tensor]:
        """(slots, h, w) logits of masks on the frame in hand; (slots,) how far these are from one
        half, from 0 to 1; and (slots, h, w) soft masks of the last frame, moved along the flow."""
        masks = self._last_masks
        if flow is not None:
            masks = along(masks, flow)
        self._logits = torch.full_like(masks, NOTHING)
        crisp = masks.new_zeros(len(masks))
        for memory in self._memories:
            found = memory.read(masks, flow)
            if found is not None:
                self._logits[found.objects] = found.logits
                crisp[found.objects] = found.crisp
        return self._logits, crisp, masks

    def start(self, slots: Sequence[int], logits: Tensor) -> None:
        """Objects begin with these (B, h, w) masks on the frame in hand."""
        self._logits[upload_index(slots, logits.device)] = logits
        areas = above(logits).mean((1, 2)).tolist()
        small = [slot for slot, area in zip(slots, areas, strict=True) if area < SMALL_AREA]
        large = [slot for slot in slots if slot not in small]
        coarse, fine = self._memories
        for memory, ours, others in ((coarse, large, small), (fine, small, large)):
            memory.forget(others)
            memory.start(ours, self._logits)


class _Followed:
    """One memory, the objects that are in it, and the keys of the frame in hand."""

    def __init__(
        self,
        reading: Reading,
        mask_size: tuple[int, int],
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        rows, columns = (side // reading.patch for side in mask_size)
        self.memory = AffinityMemory(reading, (rows, columns), slots, device, dtype)
        self._dtype = dtype
        self._origins: dict[int, int] = {}  # object -> its conditioning frame
        self._begun = [-1] * CONDITIONING  # what number of frame each of those is
        self._now = 0
        self._features: TrunkFeatures | None = None
        self._keys: Tensor | None = None

    @property
    def in_use(self) -> bool:
        """Whether an object is in it."""
        return bool(self._origins)

    def begin(self, features: TrunkFeatures, masks: Tensor) -> None:
        if self._keys is not None:
            self.memory.remember(self._keys, masks)
        self._now += 1
        self._features, self._keys = features, None

    def keep(self, slots: Sequence[int]) -> None:
        self.forget([slot for slot in self._origins if slot not in slots])

    def forget(self, slots: Sequence[int]) -> None:
        for slot in slots:
            if self._origins.pop(slot, None) is not None:
                self.memory.remove_object(slot)

    def read(self, masks: Tensor, flow: Flow | None) -> Found | None:
        """As `AffinityMemory.read`, of the frame in hand; None where no object is in it."""
        return self.memory.read(self._current_keys(), masks, flow) if self.in_use else None

    def start(self, slots: Sequence[int], logits: Tensor) -> None:
        if not slots:
            return
        self.forget(slots)
        frame = self._conditioning_frame(logits)
        for slot in slots:
            self.memory.add_object(slot, frame, logits[slot].sigmoid())
            self._origins[slot] = frame

    def _conditioning_frame(self, logits: Tensor) -> int:
        """The frame in hand, among the conditioning frames; where there is no room for it the
        objects of the oldest begin again, as they are now."""
        if self._now in self._begun:
            return self._begun.index(self._now)
        unused = [i for i in range(CONDITIONING) if i not in self._origins.values()]
        frame = min(unused or range(CONDITIONING), key=self._begun.__getitem__)
        self._begun[frame] = self._now
        self.memory.condition(frame, self._current_keys())
        for slot, origin in self._origins.items():
            if origin == frame:
                self.memory.add_object(slot, frame, logits[slot].sigmoid())
        return frame

    def _current_keys(self) -> Tensor:
        assert self._features is not None
        if self._keys is None:
            self._keys = self._features.keys(self.memory.reading).to(self._dtype)
        return self._keys
