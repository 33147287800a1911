"""The sun over a street, and how long the shadows are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sun:
    """direction: (3,) unit vector towards it. darkness: share of the light a shadow lacks."""

    direction: np.ndarray
    darkness: float

    def shadow(self, height: float) -> np.ndarray:
        """(3,) metres from the foot to the tip of the shadow of something `height` metres tall."""
        x, y, z = self.direction
        return height * np.array([-x, 0, -z]) / max(y, 0.3)


def random_sun(rng: np.random.Generator) -> Sun:
    height = rng.uniform(0.25, 1.0)
    azimuth = rng.uniform(0, 2 * np.pi)
    flat = math.sqrt(1 - height**2)
    direction = np.array([flat * math.cos(azimuth), height, flat * math.sin(azimuth)])
    return Sun(direction, darkness=rng.uniform(0.1, 0.6))
