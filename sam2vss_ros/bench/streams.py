"""The same images and prompts through our engine and through upstream's video predictor."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sam2 import sam2_video_predictor
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sam2vss_ros.sam2 import functional
from sam2vss_ros.sam2.build import Sam2Model
from sam2vss_ros.sam2.masklets import Masklets
from sam2vss_ros.sam2.options import TrackingOptions
from sam2vss_ros.sam2.tracker import Tracked, Tracker
from sam2vss_ros.sam2.windows import boxes_of
from sam2vss_ros.stream.interleave import Interleave
from sam2vss_ros.stream.motion import Flow, Motion
from sam2vss_ros.types import Prompt

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, as the camera gives it."""

ENDLESS = 1 << 30
"""Frames that upstream is told of: more than any of its buffers holds."""


class Stream(Protocol):
    """One engine on one stream. `masks`: (N, S/4, S/4) logits of the last frame, in the order in
    which the objects were prompted."""

    masks: Tensor

    def advance(
        self, image: Tensor, prompts: Sequence[Prompt] = (), picture: Picture | None = None
    ) -> object:
        """Follow all objects to the next frame, and start one for each prompt on it.

        image: (1, 3, S, S) as `functional.image_tensor` gives it; prompts are in its pixels.
        picture: what it was made of, for those that look for its motion.
        """

    def held_bytes(self) -> int:
        """Bytes that are kept from frame to frame."""


class EngineStream:
    """Our `Tracker`: a step for all objects but those that rest, then the memory write.

    Nobody rests on frames that come without their pictures. hold: what is followed is found where
    its prompt was, whatever the network says. The masks of an untrained network are noise, and what
    is left out depends on where objects are.
    """

    def __init__(
        self, model: Sam2Model, slots: int, options: TrackingOptions, hold: bool = False
    ) -> None:
        self.tracker = (HeldTracker if hold else Tracker)(model, slots, options)
        self._masklets = Masklets(self.tracker)
        self._motion = Motion()
        self._interleave = Interleave(self.tracker.nothing())

    @torch.inference_mode()
    def advance(
        self, image: Tensor, prompts: Sequence[Prompt] = (), picture: Picture | None = None
    ) -> Tracked:
        """As `Stream.advance`; returns all objects in the order of their slots."""
        tracker, size = self.tracker, self.tracker.network.image_size
        features = functional.encode_image(tracker.network, image)
        slots, rule = self._masklets.slots, tracker.options.rest
        # As in the pipeline: one flow a frame, here for those who rest alone.
        flow = None if rule is None or picture is None else self._motion.follow(picture)
        rests, resting = self._interleave.rest(slots, rule, flow)
        parts = [self._masklets.advance(features, rests, flow), resting]
        for prompt in prompts:
            found = tracker.from_prompt(features, len(slots), prompt, (size, size))
            self._masklets.begin(features, found)
            parts.append(found)
        here = Tracked.join(parts)
        here = here.take(sorted(range(len(here.slots)), key=here.slots.__getitem__))
        self._interleave.note(here.slots, here)
        self.masks = here.masks
        return here

    def held_bytes(self) -> int:
        return self.tracker.bank.nbytes()


class HeldTracker(Tracker):
    """Finds every object where it began, at the cost of looking for it."""

    def __init__(self, model: Sam2Model, slots: int, options: TrackingOptions) -> None:
        super().__init__(model, slots, options)
        self._begun = self.nothing()

    def start(self, features: functional.ImageFeatures, seen: Tracked) -> None:
        super().start(features, seen)
        self._begun = Tracked.join([self._begun, seen])

    def step(
        self, features: functional.ImageFeatures, slots: list[int], flow: Flow | None = None
    ) -> Tracked:
        tracked = super().step(features, slots, flow)
        begun = self._begun.take([self._begun.slots.index(slot) for slot in slots])
        boxes = boxes_of(begun.masks, self.network.image_size // 16).cpu()
        self.bank.note_boxes(torch.tensor(slots, dtype=torch.int64), boxes)
        return dataclasses.replace(begun, pointers=tracked.pointers)


class HeldModel(Sam2Model):
    """A model whose trackers hold their objects where they began: for untrained networks."""

    @staticmethod
    def of(model: Sam2Model) -> HeldModel:
        """The same network."""
        return HeldModel(model.card, model.network, model.device, model.dtype)

    def new_tracker(self, slots: int, options: TrackingOptions) -> HeldTracker:
        """As `Sam2Model.new_tracker`."""
        return HeldTracker(self, slots, options)


class UpstreamStream:
    """`SAM2VideoPredictor` with the weights of one of our networks, on images as they come.

    Upstream loads all frames before it begins; here it is handed each when it asks for it. It
    keeps what it saw of every object on every frame: 0.8 MB per frame and object of Meta's
    models at 1024 px. Mask outputs stay at stride 4, which spares it resampling.

    exact_memory: keep memories in the precision they have, in half as much space again. By itself
    upstream rounds them to bfloat16, even where it runs in float32.
    """

    def __init__(self, network: SAM2Base, exact_memory: bool = False) -> None:
        self.predictor = _as_upstream_has_it(network)
        self.predictor.requires_grad_(True)  # autocast keeps the cast weights of such only
        self.predictor.fill_hole_area = 0
        self.predictor.non_overlap_masks = False
        self.predictor.clear_non_cond_mem_around_input = False
        self.predictor.add_all_frames_to_correct_as_cond = False
        self._exact_memory = exact_memory
        self._images = _LatestImage()
        self._state: dict[str, Any] = {}
        self._frames: Iterator[object] = iter(())
        self._time = 0

    @torch.inference_mode()
    def advance(
        self, image: Tensor, prompts: Sequence[Prompt] = (), picture: Picture | None = None
    ) -> list[dict[str, Tensor]]:
        """As `Stream.advance`; returns upstream's own record of each object on this frame."""
        self._images.latest = image[0]
        with self._adapted():
            if not self._state:
                self._state = self.predictor.init_state("")
            for prompt in prompts:
                self._add(prompt)
            if prompts:
                self._frames = self.predictor.propagate_in_video(self._state, self._time)
            next(self._frames)
        seen = [self._record(i) for i in range(len(self._state["obj_ids"]))]
        self.masks = torch.cat([record["pred_masks"][:, 0] for record in seen])
        self._time += 1
        return seen

    def _add(self, prompt: Prompt) -> None:
        obj_id, size = len(self._state["obj_ids"]), self.predictor.image_size
        if prompt.mask is not None:
            self.predictor.add_new_mask(self._state, self._time, obj_id, prompt.mask)
            return
        self.predictor.add_new_points_or_box(
            self._state,
            self._time,
            obj_id,
            None if prompt.points is None else prompt.points / size,
            prompt.point_labels,
            normalize_coords=False,
            box=None if prompt.box is None else [v / size for v in prompt.box],
        )

    def _record(self, index: int) -> dict[str, Tensor]:
        outputs = self._state["output_dict_per_obj"][index]
        prompted: dict[str, Tensor] | None = outputs["cond_frame_outputs"].get(self._time)
        return prompted or outputs["non_cond_frame_outputs"][self._time]

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        side = self.predictor.image_size // 4
        with ExitStack() as changes:
            changes.enter_context(
                replaced(
                    sam2_video_predictor,
                    load_video_frames=lambda **_: (self._images, side, side),
                    tqdm=lambda frames, **_: frames,
                )
            )
            if self._exact_memory:
                changes.enter_context(replaced(torch, bfloat16=torch.float32))
            yield

    def held_bytes(self) -> int:
        kept = [x for x in tree_leaves(self._state["output_dict_per_obj"]) if torch.is_tensor(x)]
        storages = [x.untyped_storage() for x in kept]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def _as_upstream_has_it(network: SAM2Base) -> SAM2VideoPredictor:
    """A copy of a network with upstream's own modules in place of our faster ones."""
    predictor = copy.deepcopy(network)
    for module in predictor.modules():
        if type(module).__module__.startswith("sam2vss_ros."):
            module.__class__ = type(module).__base__
    predictor.to(memory_format=torch.contiguous_format)
    vars(predictor.image_encoder.trunk).pop("_get_pos_embed", None)
    predictor.__class__ = SAM2VideoPredictor
    return predictor


class _LatestImage:
    """Stands for upstream's list of all frames."""

    latest: Tensor

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Tensor:
        return self.latest


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Exchange attributes of a module or an object for a while."""
    before = {name: getattr(owner, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
