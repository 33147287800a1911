"""What users ask of a stream between two frames: prompts, removals, resets, other options.

Any thread may ask; the thread that processes frames takes what was asked once per frame. This is
the one lock of a pipeline, and it is never held while an image is looked at.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sam2vss_ros.config import PipelineConfig
from sam2vss_ros.options import options_of
from sam2vss_ros.semantics.catalog import ClassCatalog
from sam2vss_ros.stream.objects import ObjectMemory
from sam2vss_ros.types import Prompt

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class PlacedPrompt:
    """A prompt, the id that its object will have, and the size of the image it points into.

    of_next: that image is the next one, whatever it shows; else one that the user has seen.
    """

    track_id: int
    prompt: Prompt
    size: Size
    of_next: bool = False


@dataclass(frozen=True)
class Taken:
    """What holds for a frame: the options, and what was asked for since the last one."""

    config: PipelineConfig
    prompts: tuple[PlacedPrompt, ...] = ()
    removals: frozenset[int] = frozenset()
    reset: bool = False


class Requests:
    """The requests to one stream.

    catalog: says which classes there are at present. check: raises ValueError for options that do
    not fit the networks. new_id: gives an id that no object has.
    """

    def __init__(
        self,
        config: PipelineConfig,
        catalog: Callable[[], ClassCatalog],
        check: Callable[[PipelineConfig], None],
        new_id: Callable[[], int],
    ) -> None:
        self._catalog = catalog
        self._check = check
        self._new_id = new_id
        self._lock = threading.Lock()
        self._waiting = Taken(config)
        # The stream as it was when it was last noted.
        self._size: Size | None = None
        self._known: frozenset[int] = frozenset()
        self._asked_for: frozenset[int] = frozenset()  # those of them that users asked for

    @property
    def config(self) -> PipelineConfig:
        """The options as they will hold for the next frame."""
        return self._waiting.config

    @property
    def resets(self) -> bool:
        """Whether the next frame begins the stream anew."""
        return self._waiting.reset

    @property
    def idle(self) -> bool:
        """Whether nothing was asked for that the next frame is to answer."""
        return self._waiting == Taken(self._waiting.config)

    def reset(self) -> None:
        """Forget all objects, and prompts not taken up yet, before the next frame."""
        with self._lock:
            self._ask(prompts=(), reset=True)

    def add_prompt(self, prompt: Prompt, track_id: int | None = None) -> int:
        """As `VssPipeline.add_prompt`."""
        with self._lock:
            of_next = track_id is not None and prompt.mask is not None
            size = self._check_prompt(prompt, of_next)
            there = track_id in self._known - self._waiting.removals and not self._waiting.reset
            if not there and self._places() <= 0:
                raise ValueError(
                    f"max_objects: all {self.config.max_objects} places are taken by objects that "
                    "users asked for; remove one of them first"
                )
            placed = PlacedPrompt(track_id or self._new_id(), prompt, size, of_next)
            self._ask(prompts=(*self._waiting.prompts, placed))
            return placed.track_id

    def remove_object(self, track_id: int) -> bool:
        """As `VssPipeline.remove_object`."""
        with self._lock:
            others = tuple(p for p in self._waiting.prompts if p.track_id != track_id)
            if len(others) < len(self._waiting.prompts):
                self._ask(prompts=others)
                return True
            if track_id not in self._known or track_id in self._waiting.removals:
                return False
            self._ask(removals=self._waiting.removals | {track_id})
            return True

    def reconfigure(self, **changes: object) -> None:
        """As `VssPipeline.reconfigure`."""
        options = options_of(PipelineConfig)
        for name in changes:
            if name not in options or not options[name][1].live:
                live = ", ".join(k for k, (_, o) in options.items() if o.live)
                raise ValueError(f"{name}: cannot change while running; these can: {live}")
        with self._lock:
            config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
            self._check(config)
            if (config.mode == "network") != (self.config.mode == "network"):
                self._ask(prompts=(), reset=True)
            self._ask(config=config)

    def take(self, size: Size) -> Taken:
        """What holds for a frame of this height and width, which begins now."""
        with self._lock:
            taken = self._waiting
            self._waiting = Taken(taken.config)
            self._size = size
            gone = self._known if taken.reset else taken.removals
            asked = {p.track_id for p in taken.prompts}
            self._known = self._known - gone | asked
            self._asked_for = self._asked_for - gone | asked
            return taken

    def begin_anew(self, prompts: Sequence[PlacedPrompt]) -> None:
        """A frame failed: forget all objects before the next, which is given its prompts again."""
        with self._lock:
            waiting = self._waiting
            again = () if waiting.reset else prompts
            kept = [p for p in (*again, *waiting.prompts) if p.track_id not in waiting.removals]
            self._known = self._asked_for = frozenset()
            self._ask(prompts=tuple(kept), reset=True)

    def claim(self, objects: ObjectMemory, wanted: int) -> int:
        """How many of `wanted` objects discovery may start among those in memory by now.

        The places of prompts that came meanwhile are not theirs.
        """
        with self._lock:
            self._note(objects)
            return max(0, min(wanted, objects.room() - len(self._waiting.prompts)))

    def note(self, objects: ObjectMemory) -> None:
        """Look at the objects in memory after a frame."""
        with self._lock:
            self._note(objects)

    def _note(self, objects: ObjectMemory) -> None:
        self._known = frozenset(t.track_id for t in objects.all())
        self._asked_for = frozenset(t.track_id for t in objects.all() if t.prompted)

    def _ask(self, **changes: object) -> None:
        self._waiting = dataclasses.replace(self._waiting, **changes)  # type: ignore[arg-type]

    def _places(self) -> int:
        """Places for further prompts, once what was asked for is done: all that users do not hold,
        since what was found gives way."""
        waiting = self._waiting
        held = frozenset() if waiting.reset else self._asked_for - waiting.removals
        return self.config.max_objects - len(held | {p.track_id for p in waiting.prompts})

    def _check_prompt(self, prompt: Prompt, of_next: bool) -> Size:
        """The size of the image it points into; of the next one it is that of the mask."""
        if self.config.mode == "network":
            raise ValueError("mode: network follows no objects")
        catalog = self._catalog()
        if prompt.class_id is not None and prompt.class_id not in catalog.ids:
            raise ValueError(f"class_id: {prompt.class_id} is not in catalog {catalog.name}")
        if of_next and prompt.mask is not None:
            return prompt.mask.shape[0], prompt.mask.shape[1]
        if self._size is None:
            raise ValueError("no image has come yet, so there is nothing to point at")
        height, width = self._size
        if prompt.mask is not None and prompt.mask.shape != self._size:
            raise ValueError(
                f"mask: {prompt.mask.shape[1]} x {prompt.mask.shape[0]} pixels, but the image has "
                f"{width} x {height}"
            )
        corners = np.array(prompt.box).reshape(2, 2) if prompt.box is not None else prompt.points
        if corners is not None and not ((corners >= 0) & (corners <= (width, height))).all():
            raise ValueError(f"prompt: {corners.tolist()} is not inside {width} x {height} pixels")
        return self._size
