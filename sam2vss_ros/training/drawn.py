"""Stills of drawn streets, to train on beside photographs."""

from __future__ import annotations

from itertools import islice

import numpy as np
from tqdm import tqdm

from sam2vss_ros.errors import InputError
from sam2vss_ros.semantics.catalog import ClassCatalog, load_catalog
from sam2vss_ros.training.data import VOID_LABEL, LabelledStill
from sam2vss_ros.training.procedural import street_video

FIRST_SEED = 100
"""The demo's street, and those of tests, have lower seeds."""

SIZE = 360, 480
"""Height and width."""

APART = 45
"""Frames between the two stills of a drive."""


def drawn_stills(
    count: int, catalog: ClassCatalog, size: tuple[int, int] = SIZE
) -> list[LabelledStill]:
    """`count` images, two of each drive, in the classes that bear the names of CamVid's.

    What has none of them is void. Raises InputError where the catalog has no such class.
    """
    if not count:
        return []
    indices = {c.name: i for i, c in enumerate(catalog.classes)}
    drawn = [c.name for c in load_catalog("camvid").classes]
    table = np.full(256, VOID_LABEL, np.uint8)
    table[: len(drawn)] = [indices.get(name, VOID_LABEL) for name in drawn]
    if (table == VOID_LABEL).all():
        raise InputError(f"drawn: {catalog.name} has none of the classes {', '.join(drawn)}")
    stills = []
    for n in tqdm(range(count), unit="image", desc="draw streets"):
        drive = street_video(FIRST_SEED + n // 2, APART + 1, size)
        image, labels, _ = next(islice(drive, APART * (n % 2), None))
        stills.append(LabelledStill(f"drawn_{n:04d}", image, table[labels]))
    return stills
