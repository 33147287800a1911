"""What the unit tests share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sam2vss_ros.training.procedural import make_clip
from streams import HEIGHT, WIDTH


@pytest.fixture(scope="session")
def street() -> npt.NDArray[np.uint8]:
    """(12, HEIGHT, WIDTH, 3), a procedural street."""
    return make_clip(11, 12, (HEIGHT, WIDTH), kind="street").frames
