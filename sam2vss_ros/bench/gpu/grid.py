"""What is measured: every model at every size with every number of objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from sam2vss_ros.bench.speed import Plan
from sam2vss_ros.errors import InputError
from sam2vss_ros.sam2.cards import CARDS, model_card

MODELS = tuple(CARDS)
SIZES = (512, 1024)
OBJECTS = (1, 8, 32, 64)

MOST_OBJECTS = 256
ENGINES = ("exact", "fast")

DRY_SCALE, MOST_DRY_OBJECTS = 8, 3
"""In a dry run images are so many times smaller, and no more objects are followed."""

DRY_OBJECTS = (1, 32)
"""Numbers of objects in a dry run, where others would be as many."""


@dataclass(frozen=True)
class Configuration:
    """A model, the side of its input in pixels, and how many objects it follows."""

    model: str
    image_size: int
    objects: int

    @property
    def name(self) -> str:
        """What files of it are called."""
        return re.sub(r"[^\w.+-]+", "_", f"{self.model}_{self.image_size}px_{self.objects}")

    def tiny(self) -> Configuration:
        """What stands for it in a dry run."""
        step = model_card(self.model).size_step
        side = max(step, self.image_size // DRY_SCALE // step * step)
        return Configuration(self.model, side, min(self.objects, MOST_DRY_OBJECTS))


def configurations(
    models: Sequence[str], sizes: Sequence[int], objects: Sequence[int]
) -> list[Configuration]:
    """All combinations, the cheap ones of each model first, none twice.

    Raises InputError naming what does not do.
    """
    for count in objects:
        if not 1 <= count <= MOST_OBJECTS:
            raise InputError(
                f"objects: {count} is not a number of objects from 1 to {MOST_OBJECTS}"
            )
    for model, size in product(models, sizes):
        try:
            step = model_card(model).size_step
        except ValueError as error:
            raise InputError(error) from error
        if size < 1 or size % step:
            raise InputError(
                f"image-size: {size} is not a multiple of {step}, as {model} needs; leave it out, "
                "or give sizes that do for all models"
            )
    every = product(dict.fromkeys(models), sorted(set(sizes)), sorted(set(objects)))
    return [Configuration(*one) for one in every]


@dataclass(frozen=True)
class Frames:
    """How many frames are for what: of each way to follow the first ones fill the memory and are
    not timed, then some are timed, in beats as of `speed.Plan`, then some are traced."""

    warm_up: int
    beat: int
    timed: int
    traced: int

    @property
    def all(self) -> int:
        """The frames that a recording must have."""
        return self.warm_up + self.timed + self.traced + 1  # the profiler's own warm-up

    @property
    def plan(self) -> Plan:
        """For `compare_speed`."""
        return Plan(self.warm_up, self.beat, self.timed)


FRAMES = Frames(warm_up=21, beat=3, timed=21, traced=3)
"""With `fast` every object is followed within three frames; seven of those turns fill memories."""

DRY_FRAMES = Frames(warm_up=1, beat=1, timed=1, traced=1)
